//! Checkpoints across kills: none over a record that is not there, no two that contradict each other.

use std::path::Path;

use auditmon_e2e::{Agent, Output};

/// The checkpoints that anybody could have fetched.
#[derive(Debug, Default)]
pub struct Signed {
    kept: Vec<String>,
}

impl Signed {
    /// Keeps the newest of a data directory, whatever its agent does or did. It must be whole whenever it is there.
    pub fn keep(&mut self, data: &Path) {
        let path = data.join("journal/1/checkpoint");
        match std::fs::read_to_string(&path) {
            Ok(note) if self.kept.last() != Some(&note) => self.kept.push(note),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }

    /// How many different ones were kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none was kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// What a kill or a fault left of an agent that doesn't run isn't called tampering, before a start mends anything.
    #[track_caller]
    pub fn check_left(&self, agent: &Agent) {
        let output = self.verify(agent);
        // Where nothing was ever signed there is no verdict.
        let expected = if self.is_empty() { [0, 2] } else { [0, 0] };
        assert!(
            expected.contains(&output.code),
            "{}: {}{}",
            output.code,
            output.stdout,
            output.stderr
        );
    }

    /// The journal of an agent that was stopped holds, extends each checkpoint that was kept, and never had to
    /// begin again.
    #[track_caller]
    pub fn check(&self, agent: &Agent) {
        let output = self.verify(agent);
        assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
        assert!(!agent.data_dir().join("journal/2").exists());
    }

    fn verify(&self, agent: &Agent) -> Output {
        let mut verb = vec!["verify"];
        let file = tempfile::NamedTempFile::new().unwrap();
        if !self.kept.is_empty() {
            std::fs::write(file.path(), self.kept.concat()).unwrap();
            verb.extend(["--against", file.path().to_str().unwrap()]);
        }
        agent.run(&verb)
    }
}

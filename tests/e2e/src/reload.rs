//! Changing the configuration of a running agent.

use rustix::process::Signal;
use serde_json::Value;

use crate::{Agent, PATIENCE, eventually};

impl Agent {
    /// Puts another configuration in the place of its own.
    pub fn rewrite(&self, yaml: &str) {
        std::fs::write(self.dir().join("auditmon.yaml"), yaml).unwrap();
    }

    /// Has the configuration loaded again, and gives the log line that says how that went.
    pub fn reload(&self) -> Value {
        let lines = || {
            let log = self.log().into_iter();
            let is = |line: &Value| {
                let message = line["message"].as_str().unwrap_or_default();
                message.starts_with("the configuration was loaded again")
            };
            log.filter(is).collect::<Vec<_>>()
        };
        let before = lines().len();
        self.signal(Signal::HUP);
        eventually("the configuration is loaded again", PATIENCE, || {
            lines().get(before).cloned()
        })
    }

    /// The same with another configuration, which must be taken; gives the keys that took effect and those that wait.
    #[track_caller]
    pub fn reload_with(&self, yaml: &str) -> (String, String) {
        self.rewrite(yaml);
        let line = self.reload();
        assert_eq!(line["level"], "INFO", "{line}\n{}", self.stderr());
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (text("changed"), text("pending"))
    }

    /// State and reason of a plugin, and since when.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Value {
        self.get("/healthz").expect(200).json()["plugins"][name].clone()
    }

    /// Waits until a plugin is in this state.
    #[track_caller]
    pub fn await_state(&self, name: &str, state: &str) -> Value {
        let what = format!("{name} is {state}");
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            let plugin = self.plugin(name);
            if plugin["state"] == state {
                return plugin;
            }
            assert!(std::time::Instant::now() < until, "{what}: {plugin}\n{}", self.stderr());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// A metric without labels, or with exactly these (`{plugin="x"}`).
    #[must_use]
    pub fn metric(&self, name_and_labels: &str) -> Option<f64> {
        let text = self.get("/metrics").expect(200).text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }

    /// Events of the journal with this name.
    #[must_use]
    pub fn dumped(&self, event_name: &str) -> Vec<Value> {
        let dump = self.dump().into_iter();
        dump.map(|line| line["event"].clone())
            .filter(|event| event["event_name"] == event_name)
            .collect()
    }
}

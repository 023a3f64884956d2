//! How configurations, and the secrets that they name as files, are read: before the drop with the privileges of the
//! start, later by the control thread. It has to be any file that the loader asks for, since a new configuration names
//! new ones.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auditmon_config::{ReadFile, SEARCHED, read_file};
use auditmon_core::privileged::ConfiguredFile;

use super::Privileges;

/// For the first loading, and for commands. What is not the configuration file is a secret, and refused if others may
/// read it.
#[must_use]
pub fn reader(named: Option<&Path>) -> ReadFile {
    let named = named.map(Path::to_owned);
    Arc::new(move |path| {
        let file = configured(named.as_ref(), path);
        // The configuration itself may come through a pipe.
        if file.secret {
            file.read().map_err(io::Error::from)
        } else {
            read_file(path)
        }
    })
}

impl Privileges {
    /// For every further loading.
    #[must_use]
    pub fn reader(&self, named: Option<&Path>) -> ReadFile {
        let (named, files) = (named.map(Path::to_owned), self.files.clone());
        Arc::new(move |path| Ok(files.read(&configured(named.as_ref(), path))?))
    }
}

fn configured(named: Option<&PathBuf>, path: &Path) -> ConfiguredFile {
    let is_configuration = named.map_or_else(
        || SEARCHED.iter().any(|searched| Path::new(searched) == path),
        |named| named == path,
    );
    ConfiguredFile {
        path: path.to_owned(),
        secret: !is_configuration,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use auditmon_core::privileged::Control;
    use rustix::thread::CapabilitySet;

    use super::*;

    #[test]
    fn the_configuration_may_be_readable_and_what_it_names_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let [config, secret] = ["auditmon.yaml", "token"].map(|name| dir.path().join(name));
        let (control, files) = Control::start(|| Ok(())).unwrap();
        let privileges = Privileges {
            control,
            files,
            kept: CapabilitySet::empty(),
            held: CapabilitySet::empty(),
            writable: None,
        };
        for path in [&config, &secret] {
            std::fs::write(path, "x").unwrap();
        }
        for read in [reader(Some(&config)), privileges.reader(Some(&config))] {
            for path in [&config, &secret] {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
            }
            assert_eq!(read(&config).unwrap(), b"x");
            let error = read(&secret).unwrap_err().to_string();
            let remedy = format!(
                "mode 0644 lets others than its owner at a secret; chmod 600 {}",
                secret.display()
            );
            assert_eq!(error, remedy);
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(read(&secret).unwrap(), b"x");
            // The loader passes over a file that is not there only if it is told so.
            let missing = read(&dir.path().join("missing")).unwrap_err();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        }
    }
}

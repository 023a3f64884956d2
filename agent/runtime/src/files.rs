//! Files that a plugin's section names: whether they have other contents than when it was built.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use auditmon_config::{Changed, Class};
use auditmon_core::plugin::Section;
use auditmon_core::schema::{FILE, RELOAD};
use serde_json::Value;

/// What tells two contents of a file apart: device, inode, size, time of change.
pub(crate) type Stamp = (u64, u64, u64, i64, i64);

/// Looks at a file, which may lie where only the control thread gets at it; `None` if it is not there.
pub(crate) type Look<'a> = dyn Fn(&Path) -> Option<Stamp> + 'a;

/// The files that a section names, as they were when they were looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(Vec<(Changed, String, Option<Stamp>)>);

impl Files {
    /// Looks at the files of a section with this schema; `path` is the section's in the file.
    pub(crate) fn named(schema: &Value, values: &Section, path: &str, look: &Look<'_>) -> Self {
        let mut files = Vec::new();
        let root = Place {
            schema,
            root: schema,
            class: Class::RestartPlugin,
        };
        root.files(values, path, &mut files);
        let stamped = files.into_iter().map(|(key, file)| {
            let stamp = look(Path::new(&file));
            (key, file, stamp)
        });
        Self(stamped.collect())
    }

    /// Keys of `now` whose files have other contents than here. A key that names other files is no matter of this.
    pub(crate) fn changed(&self, now: &Self) -> Vec<Changed> {
        let mut changed: Vec<Changed> = Vec::new();
        for (key, file, stamp) in &now.0 {
            let before = self.0.iter().find(|(_, known, _)| known == file);
            if before.is_some_and(|(_, _, before)| before != stamp) && !changed.contains(key) {
                changed.push(key.clone());
            }
        }
        changed
    }
}

/// What is looked at of a file.
pub(crate) fn stamp(meta: &Metadata) -> Stamp {
    (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

/// A place in a schema.
#[derive(Clone, Copy)]
struct Place<'a> {
    schema: &'a Value,
    root: &'a Value,
    class: Class,
}

impl<'a> Place<'a> {
    /// With what its keys say of themselves; behind references and `null or …`.
    fn resolved(mut self) -> Self {
        // References of a generated schema are not deep.
        for _ in 0..8 {
            self.class = match self.schema.get(RELOAD).and_then(Value::as_str) {
                Some("live") => Class::Live,
                Some("restart-plugin") => Class::RestartPlugin,
                Some("restart-agent") => Class::RestartAgent,
                _ => self.class,
            };
            let reference = self.schema.get("$ref").and_then(Value::as_str);
            let next = match reference.and_then(|reference| reference.strip_prefix('#')) {
                Some(pointer) => self.root.pointer(pointer),
                None => {
                    let any = self.schema.get("anyOf").and_then(Value::as_array);
                    any.and_then(|any| any.iter().find(|one| one.get("type") != Some(&"null".into())))
                }
            };
            match next {
                Some(next) => self.schema = next,
                None => break,
            }
        }
        self
    }

    fn key(self, key: &str) -> Self {
        let below = self.schema.get("properties").and_then(|properties| properties.get(key));
        let below = below.or_else(|| self.schema.get("additionalProperties"));
        Self {
            schema: below.unwrap_or(&Value::Null),
            ..self
        }
    }

    fn files(self, value: &Section, path: &str, out: &mut Vec<(Changed, String)>) {
        let is_file = self.schema.get(FILE).is_some();
        let here = self.resolved();
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    here.key(key).files(value, &format!("{path}.{key}"), out);
                }
            }
            Value::Array(list) if is_file => list.iter().for_each(|value| self.files(value, path, out)),
            Value::String(file) if is_file => {
                let key = Changed {
                    path: path.to_owned(),
                    class: here.class,
                };
                out.push((key, file.clone()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_contents_are_noticed_with_the_class_of_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for name in ["a", "b", "c"] {
            std::fs::write(path(name), name).unwrap();
        }
        let schema = json!({
            "properties": {
                "rules": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Rules"}], "x-reload": "live"},
                "ca": {"type": "string", "x-file": "read"},
                "text": {"type": "string"},
            },
            "$defs": {"Rules": {"properties": {"files": {"type": "array", "x-file": "read"}}}},
        });
        let values = json!({"rules": {"files": [path("a"), path("b")]}, "ca": path("c"), "text": path("c")});
        let on_disk = |path: &Path| std::fs::metadata(path).ok().as_ref().map(stamp);
        let look = || Files::named(&schema, &values, "sources.kernel", &on_disk);
        let before = look();
        assert_eq!(before.changed(&look()), []);
        std::fs::write(path("b"), "longer").unwrap();
        let live = Changed {
            path: "sources.kernel.rules.files".to_owned(),
            class: Class::Live,
        };
        assert_eq!(before.changed(&look()), [live]);
        std::fs::write(path("b"), "b").unwrap();
        let before = look();
        std::fs::remove_file(path("c")).unwrap();
        let restart = Changed {
            path: "sources.kernel.ca".to_owned(),
            class: Class::RestartPlugin,
        };
        assert_eq!(before.changed(&look()), [restart]);
    }
}

//! What may stand where: the JSON Schemas of the types, read once into a tree that is easy to walk.

use auditmon_core::schema::{ALIASES, FILE, NO_EFFECT, RELOAD, SECRET};
use serde_json::Value as Json;

use crate::loaded::Class;
use crate::translate::Translation;

/// Deepest nesting of a schema.
const MAX_DEPTH: usize = 32;

/// What may stand at one place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) shape: Shape,
    /// Nothing may stand there, too.
    pub(crate) nullable: bool,
    /// Of the type, else of what is above it.
    pub(crate) default: Option<Json>,
    pub(crate) description: String,
    pub(crate) secret: bool,
    pub(crate) reload: Option<Class>,
    pub(crate) aliases: Vec<Alias>,
    /// `read` or `secret`: a path that is opened.
    pub(crate) file: Option<String>,
    /// Why it does nothing yet.
    pub(crate) no_effect: Option<String>,
    /// The secret beside it that the named file holds, where the runtime reads that file.
    pub(crate) stands_for: Option<String>,
    /// It has to be there; asked for in items of lists, since elsewhere another layer may give it.
    pub(crate) required: bool,
}

/// An old name of a key.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    /// Full path; without a dot a key beside.
    pub(crate) path: String,
    pub(crate) translation: Translation,
}

/// The kinds of values.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Bool,
    Integer {
        min: Option<i128>,
        max: Option<i128>,
    },
    Number,
    Text(Text),
    /// One of a few words, each with what it means.
    Choice(Vec<(String, String)>),
    List(Box<Node>),
    /// Known keys, in order.
    Table(Vec<(String, Node)>),
    /// Keys that the user makes up; with `instances` they are names of plugins.
    Map {
        item: Box<Node>,
        instances: bool,
    },
    /// One of several shapes.
    Union(Vec<Node>),
    /// Another tree of settings: `hosts[].set`.
    Overlay,
    Any,
}

/// What a text has to look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Text {
    Plain,
    Size,
    Span,
    SocketAddress,
}

impl Node {
    pub(crate) fn new(shape: Shape, description: &str) -> Self {
        Self {
            shape,
            nullable: false,
            default: None,
            description: description.to_owned(),
            secret: false,
            reload: None,
            aliases: Vec::new(),
            file: None,
            no_effect: None,
            stands_for: None,
            required: false,
        }
    }

    /// Reads a JSON Schema with its `$defs`.
    pub(crate) fn of_schema(schema: &Json) -> Self {
        read(schema, schema, 0)
    }

    /// Whether a secret is here or below, so that nothing of a misplaced value may be shown.
    pub(crate) fn holds_secret(&self) -> bool {
        self.secret
            || match &self.shape {
                Shape::List(item) | Shape::Map { item, .. } => item.holds_secret(),
                Shape::Table(fields) => fields.iter().any(|(_, node)| node.holds_secret()),
                Shape::Union(nodes) => nodes.iter().any(Self::holds_secret),
                _ => false,
            }
    }

    /// Whether it is one value to those who count leaves: anything but a table of known keys.
    pub(crate) fn is_leaf(&self) -> bool {
        !matches!(self.shape, Shape::Table(_) | Shape::Map { instances: true, .. })
    }

    /// The node of a key.
    pub(crate) fn field(&self, key: &str) -> Option<&Node> {
        match &self.shape {
            Shape::Table(fields) => fields.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            Shape::Map { item, .. } => Some(item),
            _ => None,
        }
    }

    /// Gives every node its default, from the defaults of what is above it.
    pub(crate) fn spread_default(&mut self, default: &Json) {
        self.default = Some(default.clone());
        if let Shape::Table(fields) = &mut self.shape {
            for (key, node) in fields {
                if let Some(default) = default.get(key.as_str()) {
                    node.spread_default(default);
                }
            }
        }
    }
}

fn read(schema: &Json, root: &Json, depth: usize) -> Node {
    let text = |key: &str| schema.get(key).and_then(Json::as_str).map(str::to_owned);
    let mut node = shape(schema, root, depth);
    if let Some(description) = text("description") {
        node.description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(default) = schema.get("default") {
        node.spread_default(default);
    }
    if let Some(class) = text(RELOAD) {
        node.reload = Some(match class.as_str() {
            "live" => Class::Live,
            "restart-agent" => Class::RestartAgent,
            _ => Class::RestartPlugin,
        });
    }
    node.secret |= schema.get(SECRET) == Some(&Json::Bool(true));
    node.file = text(FILE).or(node.file);
    node.no_effect = text(NO_EFFECT).or(node.no_effect);
    for alias in schema.get(ALIASES).and_then(Json::as_array).into_iter().flatten() {
        let path = alias.as_str().or_else(|| alias.get("path")?.as_str());
        let translation = alias.get("as").and_then(Json::as_str).map(Translation::named);
        if let Some(path) = path {
            node.aliases.push(Alias {
                path: path.to_owned(),
                translation: translation.unwrap_or(Translation::None),
            });
        }
    }
    node
}

fn shape(schema: &Json, root: &Json, depth: usize) -> Node {
    let plain = |shape| Node::new(shape, "");
    if depth > MAX_DEPTH {
        return plain(Shape::Any);
    }
    if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
        let found = name.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map_or_else(|| plain(Shape::Any), |found| read(found, root, depth + 1));
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(alternatives) = schema.get(key).and_then(Json::as_array) {
            return union(alternatives, root, depth);
        }
    }
    if let Some(word) = schema.get("const").and_then(Json::as_str) {
        return plain(Shape::Choice(vec![(word.to_owned(), String::new())]));
    }
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        let mut node = plain(Shape::Choice(
            words
                .iter()
                .filter_map(Json::as_str)
                .map(|word| (word.to_owned(), String::new()))
                .collect(),
        ));
        node.nullable = words.contains(&Json::Null);
        return node;
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |name: &str| types.contains(&name);
    let mut node = plain(if is("object") {
        object(schema, root, depth)
    } else if is("array") {
        let item = schema.get("items").map(|items| read(items, root, depth + 1));
        Shape::List(Box::new(item.unwrap_or_else(|| plain(Shape::Any))))
    } else if is("string") {
        Shape::Text(match schema.get("format").and_then(Json::as_str) {
            Some("bytes") => Text::Size,
            Some("duration") => Text::Span,
            Some("socket-address") => Text::SocketAddress,
            _ => Text::Plain,
        })
    } else if is("boolean") {
        Shape::Bool
    } else if is("integer") {
        let limit = |key: &str| schema.get(key).and_then(|n| Some(i128::from(n.as_i64()?)));
        Shape::Integer {
            min: limit("minimum"),
            max: limit("maximum"),
        }
    } else if is("number") {
        Shape::Number
    } else {
        Shape::Any
    });
    node.nullable = is("null");
    node
}

fn object(schema: &Json, root: &Json, depth: usize) -> Shape {
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else {
        return match schema.get("additionalProperties") {
            Some(item @ Json::Object(_)) => Shape::Map {
                item: Box::new(read(item, root, depth + 1)),
                instances: false,
            },
            Some(Json::Bool(false)) => Shape::Table(Vec::new()),
            _ => Shape::Any,
        };
    };
    let required = schema.get("required").and_then(Json::as_array);
    let fields = properties.iter().map(|(key, value)| {
        let mut node = read(value, root, depth + 1);
        node.required = required.is_some_and(|keys| keys.iter().any(|name| name == key));
        (key.clone(), node)
    });
    Shape::Table(fields.collect())
}

fn union(alternatives: &[Json], root: &Json, depth: usize) -> Node {
    let is_null = |schema: &&Json| schema.get("type") == Some(&Json::String("null".to_owned()));
    let nullable = alternatives.iter().any(|schema| is_null(&schema));
    let mut nodes: Vec<Node> = alternatives
        .iter()
        .filter(|schema| !is_null(schema))
        .map(|schema| read(schema, root, depth + 1))
        .collect();
    let mut node = if nodes.len() == 1 {
        nodes.remove(0)
    } else if nodes.iter().all(|node| matches!(node.shape, Shape::Choice(_))) {
        // Words with a description each come as alternatives of one word.
        let words = nodes.into_iter().flat_map(|node| match node.shape {
            Shape::Choice(words) if words.len() == 1 => vec![(words[0].0.clone(), node.description)],
            Shape::Choice(words) => words,
            _ => Vec::new(),
        });
        Node::new(Shape::Choice(words.collect()), "")
    } else {
        Node::new(Shape::Union(nodes), "")
    };
    node.nullable |= nullable;
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Sample {
        /// Said  over
        /// two lines.
        #[schemars(extend("x-secret" = true, "x-reload" = "live", "x-aliases" = ["old.one", {"path": "old.two", "as": "days"}]))]
        token: Option<String>,
        words: Option<Word>,
        nested: Option<Nested>,
        either: Either,
        list: Vec<u8>,
        map: BTreeMap<String, Nested>,
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Word {
        /// The one.
        One,
        /// The other.
        Two,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Nested {
        on: bool,
        #[schemars(range(min = 1, max = 64))]
        count: u32,
    }

    #[derive(JsonSchema)]
    #[schemars(untagged)]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Either {
        Name(String),
        Nested(Nested),
    }

    fn sample() -> Node {
        Node::of_schema(schemars::schema_for!(Sample).as_value())
    }

    #[test]
    fn all_shapes_of_schemars_are_read() {
        let node = sample();
        let token = node.field("token").unwrap();
        assert!(token.secret && token.nullable && token.reload == Some(Class::Live));
        assert_eq!(token.description, "Said over two lines.");
        assert_eq!(token.aliases[1].path, "old.two");
        assert!(matches!(token.aliases[1].translation, Translation::Days));
        let words = node.field("words").unwrap();
        assert!(words.nullable);
        let Shape::Choice(choice) = &words.shape else {
            panic!("{words:?}")
        };
        assert_eq!(choice[1], ("two".to_owned(), "The other.".to_owned()));
        let nested = node.field("nested").unwrap();
        assert!(nested.nullable);
        let count = nested.field("count").unwrap();
        assert!(
            matches!(
                count.shape,
                Shape::Integer {
                    min: Some(1),
                    max: Some(64)
                }
            ),
            "{count:?}"
        );
        assert!(matches!(node.field("either").unwrap().shape, Shape::Union(_)));
        let Shape::List(item) = &node.field("list").unwrap().shape else {
            panic!()
        };
        assert!(
            matches!(
                item.shape,
                Shape::Integer {
                    min: Some(0),
                    max: Some(255)
                }
            ),
            "{item:?}"
        );
        let map = &node.field("map").unwrap().shape;
        assert!(matches!(map, Shape::Map { instances: false, .. }), "{map:?}");
        assert!(node.holds_secret() && !nested.holds_secret());
    }

    #[test]
    fn defaults_reach_every_leaf() {
        let mut node = sample();
        node.spread_default(&json!({"nested": {"count": 3}}));
        let count = node.field("nested").unwrap().field("count").unwrap();
        assert_eq!(count.default, Some(json!(3)));
    }
}

//! The path under which a proxy shows the agent: `http.root_url`.

use std::sync::Arc;

use auditmon_core::http::BasePath;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// Where people and applications reach the agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefix {
    /// Without a slash at its end; empty at the root.
    path: Arc<str>,
    https: bool,
}

impl Prefix {
    /// Reads `http.root_url`.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub(crate) fn parse(root_url: &str) -> Result<Self, String> {
        let wrong = || format!("`{root_url}` is no address such as https://audit.example.org/auditmon");
        let uri: Uri = root_url.parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        if uri.authority().is_none() || uri.query().is_some() {
            return Err(wrong());
        }
        let path = uri.path().trim_end_matches('/');
        // A link that begins with two slashes leads to another host.
        if path.contains("//") {
            return Err(wrong());
        }
        Ok(Self {
            path: path.into(),
            https,
        })
    }

    /// Whether browsers come over TLS, whatever reaches the agent.
    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    /// The path; `None` at the root.
    pub(crate) fn base(&self) -> Option<BasePath> {
        (!self.path.is_empty()).then(|| BasePath(self.path.clone()))
    }

    /// Takes the prefix off a request's path: some proxies leave it there, others take it off themselves.
    pub(crate) fn strip(&self, uri: &mut Uri) {
        if self.path.is_empty() {
            return;
        }
        let Some(rest) = uri.path().strip_prefix(&*self.path) else {
            return;
        };
        if !(rest.is_empty() || rest.starts_with('/')) {
            return;
        }
        let path = if rest.is_empty() { "/" } else { rest };
        let whole = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(whole).ok();
        if let Ok(stripped) = Uri::from_parts(parts) {
            *uri = stripped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_taken_off_once_and_only_where_it_is_whole() {
        let prefix = Prefix::parse("https://audit.example.org/a/b/").unwrap();
        assert!(prefix.is_https());
        for (from, to) in [
            ("/a/b", "/"),
            ("/a/b/", "/"),
            ("/a/b?x=1", "/?x=1"),
            ("/a/b/api/v1/events?x=%2F", "/api/v1/events?x=%2F"),
            ("/a/b/a/b/c", "/a/b/c"),
            ("/a/bc", "/a/bc"),
            ("/livez", "/livez"),
            ("http://h:1/a/b/x", "http://h:1/x"),
        ] {
            let mut uri: Uri = from.parse().unwrap();
            prefix.strip(&mut uri);
            assert_eq!(uri.to_string(), to, "{from}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "audit.example.org",
            "/auditmon",
            "ftp://a/b",
            "https://a/?q=1",
            "https://a//b",
        ] {
            assert!(Prefix::parse(text).is_err(), "{text}");
        }
        assert!(!Prefix::parse("http://localhost:7984").unwrap().is_https());
    }
}

//! The routes of one listener, changed while it serves: requests that are in work end on the routes they began on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use parking_lot::{Mutex, RwLock};
use tower::ServiceExt as _;

/// What is put around all routes.
type Around = Box<dyn Fn(Router) -> Router + Send + Sync>;

/// The routes of all parts that mount some.
#[derive(Clone)]
pub(crate) struct Mounts(Arc<Inner>);

struct Inner {
    parts: Mutex<BTreeMap<&'static str, Router>>,
    around: Around,
    now: RwLock<Router>,
}

/// Two parts want one route, or both answer what no other does.
#[derive(Debug, thiserror::Error)]
#[error("its routes overlap with those of another part")]
pub(crate) struct Overlap;

impl Mounts {
    pub(crate) fn new(around: impl Fn(Router) -> Router + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            parts: Mutex::default(),
            around: Box::new(around),
            now: RwLock::default(),
        }))
    }

    /// Mounts the routes of a part in place of those it had.
    ///
    /// # Errors
    /// [`Overlap`]; nothing has changed then.
    pub(crate) fn set(&self, part: &'static str, routes: Router) -> Result<(), Overlap> {
        let mut parts = self.0.parts.lock();
        let mut new = parts.clone();
        new.insert(part, routes);
        // Merging says so by a panic.
        let merged = catch_unwind(AssertUnwindSafe(|| {
            let merged = new.values().cloned().fold(Router::new(), Router::merge);
            (self.0.around)(merged)
        }))
        .map_err(|_| Overlap)?;
        *parts = new;
        *self.0.now.write() = merged;
        Ok(())
    }

    /// Takes the routes of a part away.
    pub(crate) fn remove(&self, part: &'static str) {
        // What is left did not overlap before.
        let _ = self.set(part, Router::new());
        self.0.parts.lock().remove(part);
    }

    /// A router that always asks the present routes.
    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(pass_on).with_state(self.clone())
    }
}

async fn pass_on(State(mounts): State<Mounts>, request: Request) -> Response {
    let routes = mounts.0.now.read().clone();
    match routes.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::MatchedPath;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use tokio::sync::oneshot;

    use super::*;

    fn saying(path: &str, text: &'static str) -> Router {
        Router::new().route(path, get(move || async move { text }))
    }

    async fn ask(mounts: &Mounts, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = mounts.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn routes_come_change_and_go() {
        let mounts = Mounts::new(|router| router);
        assert_eq!(ask(&mounts, "/a").await.0, StatusCode::NOT_FOUND);
        mounts.set("a", saying("/a", "one")).unwrap();
        mounts.set("b", saying("/b", "b")).unwrap();
        assert_eq!(ask(&mounts, "/a").await.1, "one");
        mounts.set("a", saying("/a", "two")).unwrap();
        assert_eq!(ask(&mounts, "/a").await.1, "two");
        mounts.remove("a");
        assert_eq!(ask(&mounts, "/a").await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask(&mounts, "/b").await.1, "b");
    }

    #[tokio::test]
    async fn overlapping_routes_are_refused_and_nothing_changes() {
        let mounts = Mounts::new(|router| router);
        mounts.set("a", saying("/a", "a")).unwrap();
        assert!(mounts.set("b", saying("/a", "b")).is_err());
        assert_eq!(ask(&mounts, "/a").await.1, "a");
        // Other methods on one path are no overlap.
        mounts
            .set("b", Router::new().route("/a", post(|| async { "b" })))
            .unwrap();
        assert_eq!(ask(&mounts, "/a").await.1, "a");
    }

    #[tokio::test]
    async fn a_request_in_work_ends_on_the_routes_it_began_on() {
        let mounts = Mounts::new(|router| router);
        let (begun, has_begun) = oneshot::channel::<()>();
        let (go, may_go) = oneshot::channel::<()>();
        let both = Arc::new(Mutex::new(Some((begun, may_go))));
        let slow = Router::new().route(
            "/a",
            get(move || async move {
                let (begun, may_go) = both.lock().take().unwrap();
                begun.send(()).unwrap();
                may_go.await.unwrap();
                "old"
            }),
        );
        mounts.set("a", slow).unwrap();
        let asked = tokio::spawn({
            let mounts = mounts.clone();
            async move { ask(&mounts, "/a").await }
        });
        has_begun.await.unwrap();
        mounts.set("a", saying("/a", "new")).unwrap();
        assert_eq!(ask(&mounts, "/a").await.1, "new");
        go.send(()).unwrap();
        assert_eq!(asked.await.unwrap().1, "old");
    }

    #[tokio::test]
    async fn what_is_around_sees_the_route() {
        async fn tag(path: Option<MatchedPath>, request: Request, next: axum::middleware::Next) -> Response {
            let mut response = next.run(request).await;
            let route = path.as_ref().map_or("other", MatchedPath::as_str).parse().unwrap();
            response.headers_mut().insert("route", route);
            response
        }
        let mounts = Mounts::new(|router| router.layer(axum::middleware::from_fn(tag)));
        mounts.set("a", saying("/a/{id}", "a")).unwrap();
        for (path, route) in [("/a/7", "/a/{id}"), ("/b", "other")] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = mounts.router().oneshot(request).await.unwrap();
            assert_eq!(response.headers()["route"], route);
        }
    }
}

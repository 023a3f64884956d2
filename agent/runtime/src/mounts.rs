//! The routes of one listener, changed while it serves: requests that are in work end on the routes they began on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use auditmon_core::plugin::ADMIN;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use parking_lot::{Mutex, RwLock};
use tower::ServiceExt as _;

/// What is put around all routes.
type Around = Box<dyn Fn(Router) -> Router + Send + Sync>;

/// What a part mounts.
#[derive(Clone, Default)]
pub(crate) struct Routes {
    /// On the shared listener, and on those that serve this part.
    pub(crate) shared: Router,
    /// On the listener of this name alone.
    pub(crate) named: BTreeMap<&'static str, Router>,
}

impl From<Router> for Routes {
    fn from(shared: Router) -> Self {
        Self {
            shared,
            named: BTreeMap::new(),
        }
    }
}

/// The routes of all parts that mount some.
#[derive(Clone)]
pub(crate) struct Mounts(Arc<Inner>);

struct Inner {
    parts: Mutex<BTreeMap<&'static str, Routes>>,
    around: Around,
    /// The shared listener's first.
    views: Vec<View>,
}

/// What one listener serves.
struct View {
    /// Without it: everything that is shared.
    listener: Option<Named>,
    now: RwLock<Router>,
}

/// A further listener.
pub(crate) struct Named {
    pub(crate) name: String,
    /// Parts of which it has what is shared.
    pub(crate) serve: Vec<String>,
}

impl Named {
    /// The admin socket. No configured listener has its name: they have no dot in theirs.
    pub(crate) fn admin() -> Self {
        Self {
            name: ADMIN.to_owned(),
            serve: Vec::new(),
        }
    }
}

/// Two parts want one route, or both answer what no other does.
#[derive(Debug, thiserror::Error)]
#[error("its routes overlap with those of another part")]
pub(crate) struct Overlap;

impl View {
    fn of(listener: Option<Named>) -> Self {
        Self {
            listener,
            now: RwLock::default(),
        }
    }

    /// The routes that it has of a part.
    fn routes(&self, part: &str, routes: &Routes) -> Vec<Router> {
        let Some(listener) = &self.listener else {
            return vec![routes.shared.clone()];
        };
        // Of a plugin with instances, all.
        let plugin = part.split('.').next().unwrap_or(part);
        let shared = listener.serve.iter().any(|word| word == plugin);
        let named = routes.named.get(listener.name.as_str());
        shared
            .then(|| routes.shared.clone())
            .into_iter()
            .chain(named.cloned())
            .collect()
    }
}

impl Mounts {
    pub(crate) fn new(around: impl Fn(Router) -> Router + Send + Sync + 'static, further: Vec<Named>) -> Self {
        let further = further.into_iter().map(Some);
        Self(Arc::new(Inner {
            parts: Mutex::default(),
            around: Box::new(around),
            views: std::iter::once(None).chain(further).map(View::of).collect(),
        }))
    }

    /// Mounts the routes of a part in place of those it had.
    ///
    /// # Errors
    /// [`Overlap`]; nothing has changed then.
    pub(crate) fn set(&self, part: &'static str, routes: impl Into<Routes>) -> Result<(), Overlap> {
        let mut parts = self.0.parts.lock();
        let mut new = parts.clone();
        new.insert(part, routes.into());
        // Merging says so by a panic.
        let merged = catch_unwind(AssertUnwindSafe(|| {
            let merged = |view: &View| {
                let routes = new.iter().flat_map(|(part, routes)| view.routes(part, routes));
                (self.0.around)(routes.fold(Router::new(), Router::merge))
            };
            self.0.views.iter().map(merged).collect::<Vec<_>>()
        }))
        .map_err(|_| Overlap)?;
        *parts = new;
        for (view, merged) in self.0.views.iter().zip(merged) {
            *view.now.write() = merged;
        }
        Ok(())
    }

    /// Takes the routes of a part away.
    pub(crate) fn remove(&self, part: &'static str) {
        // What is left did not overlap before.
        let _ = self.set(part, Router::new());
        self.0.parts.lock().remove(part);
    }

    /// Whether there is a further listener of this name.
    pub(crate) fn has_listener(&self, name: &str) -> bool {
        self.view(name).is_some()
    }

    fn view(&self, name: &str) -> Option<usize> {
        let named = |view: &View| view.listener.as_ref().is_some_and(|listener| listener.name == name);
        self.0.views.iter().position(named)
    }

    /// What the shared listener serves.
    pub(crate) fn shared(&self) -> Served {
        self.served(Some(0))
    }

    /// What the listener of this name serves; nothing if there is none.
    pub(crate) fn named(&self, name: &str) -> Served {
        self.served(self.view(name))
    }

    fn served(&self, view: Option<usize>) -> Served {
        let mounts = self.clone();
        Served { mounts, view }
    }
}

/// What one listener serves, whatever is mounted meanwhile.
#[derive(Clone)]
pub(crate) struct Served {
    mounts: Mounts,
    view: Option<usize>,
}

impl Served {
    /// Answers a request by the routes of this moment.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let view = self.view.and_then(|view| self.mounts.0.views.get(view));
        let routes = view.map(|view| view.now.read().clone());
        match routes.unwrap_or_default().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// The same as a router, to be put together with other routes.
    pub(crate) fn into_router(self) -> Router {
        let answer = async |State(served): State<Self>, request: Request| served.answer(request).await;
        Router::new().fallback(answer).with_state(self)
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
        ask_at(mounts.shared().into_router(), path).await
    }

    async fn ask_at(router: Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn routes_come_change_and_go() {
        let mounts = Mounts::new(|router| router, Vec::new());
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
        let mounts = Mounts::new(|router| router, Vec::new());
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
    async fn a_further_listener_serves_what_it_is_told_and_what_is_for_it_alone() {
        let ops = Named {
            name: "ops".to_owned(),
            serve: vec!["metrics".to_owned(), "b".to_owned()],
        };
        let mounts = Mounts::new(|router| router, vec![ops]);
        mounts.set("metrics", saying("/metrics", "m")).unwrap();
        mounts.set("a", saying("/a", "a")).unwrap();
        let apart = |name, path, text| Routes {
            shared: saying("/b", "b"),
            named: BTreeMap::from([(name, saying(path, text))]),
        };
        mounts.set("b.one", apart("ops", "/apart", "apart")).unwrap();
        let ops = mounts.named("ops").into_router();
        for (path, shared, further) in [
            ("/metrics", Some("m"), Some("m")),
            ("/a", Some("a"), None),
            ("/b", Some("b"), Some("b")),
            ("/apart", None, Some("apart")),
        ] {
            for (router, wanted) in [(mounts.shared().into_router(), shared), (ops.clone(), further)] {
                let (status, text) = ask_at(router, path).await;
                assert_eq!((status == StatusCode::OK).then_some(&*text), wanted, "{path}");
            }
        }
        assert!(mounts.has_listener("ops") && !mounts.has_listener("other"));
        assert_eq!(
            ask_at(mounts.named("other").into_router(), "/metrics").await.0,
            StatusCode::NOT_FOUND
        );
        // What overlaps there alone is refused everywhere.
        assert!(mounts.set("c", apart("ops", "/metrics", "c")).is_err());
        mounts.remove("b.one");
        assert_eq!(ask_at(ops, "/apart").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_request_in_work_ends_on_the_routes_it_began_on() {
        let mounts = Mounts::new(|router| router, Vec::new());
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
        let mounts = Mounts::new(|router| router.layer(axum::middleware::from_fn(tag)), Vec::new());
        mounts.set("a", saying("/a/{id}", "a")).unwrap();
        for (path, route) in [("/a/7", "/a/{id}"), ("/b", "other")] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = mounts.shared().into_router().oneshot(request).await.unwrap();
            assert_eq!(response.headers()["route"], route);
        }
    }
}

//! The store's reader as the rest of the agent holds it: it stays the same when the store is built anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use auditmon_core::reader::{EventReader, Found, Page, Query, ReadError};
use parking_lot::RwLock;
use uuid::Uuid;

/// Passes questions on to the store there is.
#[derive(Clone, Default)]
pub(crate) struct StoreReader(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// By configuration there is a store.
    on: AtomicBool,
    current: RwLock<Option<(&'static str, Arc<dyn EventReader>)>>,
}

impl StoreReader {
    /// Whether there is a store by configuration, at work or not.
    pub(crate) fn turn(&self, on: bool) {
        self.0.on.store(on, Ordering::Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    /// This reader, if there is a store.
    pub(crate) fn while_on(&self) -> Option<Arc<dyn EventReader>> {
        self.is_on().then(|| Arc::new(self.clone()) as _)
    }

    /// The sink that can be read.
    pub(crate) fn name(&self) -> Option<&'static str> {
        self.0.current.read().as_ref().map(|(name, _)| *name)
    }

    /// The sink `name` can be read.
    pub(crate) fn set(&self, name: &'static str, reader: Arc<dyn EventReader>) {
        *self.0.current.write() = Some((name, reader));
    }

    /// The sink `name` can't be read any more.
    pub(crate) fn clear(&self, name: &'static str) {
        let mut current = self.0.current.write();
        if current.as_ref().is_some_and(|(owner, _)| *owner == name) {
            *current = None;
        }
    }

    /// See [`EventReader::has_remains`].
    pub(crate) fn has_remains(&self) -> bool {
        self.current().is_ok_and(|reader| reader.has_remains())
    }

    fn current(&self) -> Result<Arc<dyn EventReader>, ReadError> {
        let current = self.0.current.read().as_ref().map(|(_, reader)| reader.clone());
        current.ok_or_else(|| ReadError::Store("it is not at work; /healthz says why".to_owned()))
    }
}

#[async_trait]
impl EventReader for StoreReader {
    async fn query(&self, query: &Query) -> Result<Page, ReadError> {
        self.current()?.query(query).await
    }

    async fn get(&self, id: Uuid) -> Result<Found, ReadError> {
        self.current()?.get(id).await
    }

    async fn position(&self, origin: &str) -> Result<u64, ReadError> {
        self.current()?.position(origin).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing(&'static str);

    #[async_trait]
    impl EventReader for Nothing {
        async fn query(&self, _: &Query) -> Result<Page, ReadError> {
            Ok(Page {
                events: Vec::new(),
                next: Some(self.0.to_owned()),
            })
        }

        async fn get(&self, _: Uuid) -> Result<Found, ReadError> {
            Ok(Found::Missing)
        }

        async fn position(&self, _: &str) -> Result<u64, ReadError> {
            Ok(0)
        }
    }

    #[tokio::test]
    async fn it_stays_good_when_the_store_is_built_anew() {
        let reader = StoreReader::default();
        assert!(reader.while_on().is_none());
        reader.turn(true);
        let held = reader.while_on().unwrap();
        let next = async || held.query(&Query::default()).await.map(|page| page.next.unwrap());
        assert!(matches!(next().await, Err(ReadError::Store(_))));
        reader.set("store", Arc::new(Nothing("one")));
        assert_eq!(next().await.unwrap(), "one");
        reader.clear("other");
        reader.set("store", Arc::new(Nothing("two")));
        assert_eq!(next().await.unwrap(), "two");
        reader.clear("store");
        assert!(matches!(next().await, Err(ReadError::Store(_))));
    }
}

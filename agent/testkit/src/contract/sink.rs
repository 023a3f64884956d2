//! The contract of sinks.

use std::path::Path;
use std::sync::Arc;

use auditmon_core::plugin::{BuiltSink, Entry, Plan, Section, Start};
use auditmon_core::subscription::Events;
use auditmon_journal::format::Position;
use auditmon_journal::{Gap, GapReason, PositionVerdict};

use super::{Planned, check, context, give_up, plan};
use crate::{PATIENCE, TestAgent};

/// Tells which places of the journal the other side has, in the order in which it got them.
type Taken<'a> = Box<dyn Fn(&Path) -> Vec<u64> + 'a>;

/// A sink whose contract is checked.
pub struct Sink<'a> {
    entry: &'a Entry,
    section: Box<dyn Fn(&Path) -> Section + 'a>,
    taken: Option<Taken<'a>>,
}

impl<'a> Sink<'a> {
    /// With a section that works in the surroundings of the test, whose data directory it is given.
    #[must_use]
    pub fn new(entry: &'a Entry, section: impl Fn(&Path) -> Section + 'a) -> Self {
        Self {
            entry,
            section: Box::new(section),
            taken: None,
        }
    }

    /// How to find out what the other side has; given the data directory.
    #[must_use]
    pub fn taken(mut self, taken: impl Fn(&Path) -> Vec<u64> + 'a) -> Self {
        self.taken = Some(Box::new(taken));
        self
    }

    fn plan(&self, agent: &TestAgent) -> Arc<dyn Plan<BuiltSink>> {
        match plan(self.entry, (self.section)(agent.data_dir())) {
            Ok(Planned::Sink(plan)) => plan,
            Ok(_) => panic!("{} is no sink", self.entry.name),
            Err(faults) => panic!("{}: {faults:?}", self.entry.name),
        }
    }

    async fn build(&self, agent: &TestAgent) -> BuiltSink {
        let plan = self.plan(agent);
        let built = plan.build(&mut context(agent, self.entry, &*plan)).await;
        built.unwrap_or_else(|error| panic!("{}: {error}", self.entry.name))
    }

    /// Built and started.
    async fn start(&self, agent: &TestAgent) -> (BuiltSink, Start) {
        let mut built = self.build(agent).await;
        let origin = agent.journal.handle.origin().to_owned();
        let start = built.sink.start(&origin).await.expect("it starts");
        (built, start)
    }

    /// Checks all of it; needs what the section names.
    pub fn keeps(&self) {
        check(async |agent| self.is_built_twice(agent).await);
        check(async |agent| self.takes_everything_in_order(agent).await);
        check(async |agent| self.loses_nothing_when_a_write_is_given_up(agent).await);
        check(async |agent| self.can_be_dropped(agent).await);
    }

    async fn is_built_twice(&self, agent: &TestAgent) {
        let plan = self.plan(agent);
        let first = plan.build(&mut context(agent, self.entry, &*plan)).await;
        drop(first.unwrap_or_else(|error| panic!("{error}")));
        let second = plan.build(&mut context(agent, self.entry, &*plan)).await;
        let mut second = second.unwrap_or_else(|error| panic!("the second time: {error}"));
        tokio::time::timeout(PATIENCE, second.sink.probe())
            .await
            .expect("the probe ends")
            .expect("what it needs is there");
        let origin = agent.journal.handle.origin().to_owned();
        second.sink.start(&origin).await.expect("it starts");
        close(second).await;
    }

    async fn takes_everything_in_order(&self, agent: &TestAgent) {
        let journal = &agent.journal;
        let (mut built, start) = self.start(agent).await;
        assert!(!matches!(start, Start::Own(Some(_))), "it knows nothing yet");
        let begin = journal.handle.durable();
        let sink = &mut built.sink;

        journal.add_plain(10).await;
        assert!(
            sink.write(&journal.events(begin))
                .await
                .expect("it takes events")
                .is_all()
        );
        // State records are no events, and move the position all the same.
        let state = journal.handle.durable();
        journal.add_state(b"key", b"value").await;
        let only_state = journal.events(state);
        assert!(only_state.is_empty() && !only_state.has_no_records());
        assert!(
            sink.write(&only_state)
                .await
                .expect("it takes a batch without events")
                .is_all()
        );
        let nothing = Events::new(Arc::from(journal.handle.origin()));
        assert!(sink.write(&nothing).await.expect("it takes an empty batch").is_all());
        // A gap, and what comes behind it.
        let first = journal.handle.durable();
        journal.add_plain(5).await;
        let behind = journal.handle.durable();
        let gap = Gap {
            first,
            last: behind - 1,
            reason: GapReason::Damaged,
        };
        sink.gap(&gap).await.expect("it is told of a gap");
        journal.add_plain(7).await;
        let last = journal.events(behind);
        assert!(sink.write(&last).await.expect("it goes on behind a gap").is_all());
        // The same again, as after a crash of the agent.
        assert!(sink.write(&last).await.expect("it takes a repetition").is_all());
        close(built).await;

        let (built, start) = self.start(agent).await;
        self.is_at(agent, &start, last.end());
        close(built).await;
        let wanted: Vec<u64> = (begin..begin + 10).chain(behind..behind + 7).collect();
        self.has(agent, &start, &wanted);
    }

    async fn loses_nothing_when_a_write_is_given_up(&self, agent: &TestAgent) {
        let journal = &agent.journal;
        let (mut built, _) = self.start(agent).await;
        let begin = journal.handle.durable();
        journal.add_plain(130).await;
        let origin = journal.handle.origin().to_owned();
        let events = journal.events(begin);
        let mut at = 0;
        for polls in 0..12 {
            give_up(built.sink.write(&events), polls).await;
            // What it says of its place never goes back.
            if let Ok(Start::Own(position)) = built.sink.start(&origin).await {
                let now = position.map_or(0, |position| position.seq);
                assert!(now >= at, "from {at} back to {now}");
                at = now;
            }
        }
        let start = loop {
            // One that was given up may still be at work on the other side.
            let start = built.sink.start(&origin).await.expect("it starts again");
            match built.sink.write(&events).await {
                Ok(receipt) => {
                    assert!(receipt.is_all());
                    break start;
                }
                Err(auditmon_core::plugin::PluginError::Transient(_)) => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        close(built).await;
        self.has(agent, &start, &(begin..begin + 130).collect::<Vec<_>>());
    }

    async fn can_be_dropped(&self, agent: &TestAgent) {
        drop(self.build(agent).await);
        drop(self.start(agent).await);
        agent.journal.add_plain(20).await;
        for polls in [0, 1, 3] {
            let (mut built, _) = self.start(agent).await;
            give_up(built.sink.write(&agent.journal.events(0)), polls).await;
        }
        let (built, _) = self.start(agent).await;
        give_up(built.sink.close(), 1).await;
    }

    /// A sink with a position of its own is where it should be, and the journal knows that position.
    fn is_at(&self, agent: &TestAgent, start: &Start, end: Option<Position>) {
        if let Start::Own(position) = start {
            let position = position.as_ref().expect("it knows where it is");
            assert_eq!(Some(position), end.as_ref(), "{}", self.entry.name);
            assert_eq!(agent.journal.handle.check_position(position), PositionVerdict::Ok);
        }
    }

    /// The other side has these, each at least once and in order; exactly once where the position is kept there.
    fn has(&self, agent: &TestAgent, start: &Start, wanted: &[u64]) {
        let Some(taken) = &self.taken else { return };
        let taken = taken(agent.data_dir());
        if matches!(start, Start::Own(_)) {
            assert_eq!(taken, wanted, "each once");
            return;
        }
        let mut next = wanted.iter().peekable();
        for seq in &taken {
            next.next_if(|wanted| *wanted == seq);
        }
        assert_eq!(next.next(), None, "it is missing in {taken:?}");
    }
}

async fn close(built: BuiltSink) {
    let closed = tokio::time::timeout(PATIENCE, built.sink.close()).await;
    closed.expect("it closes").expect("it closes in order");
}

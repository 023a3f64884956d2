//! A batch of events over several workers, each key in order.

use std::collections::{HashSet, VecDeque};

use async_trait::async_trait;
use auditmon_codec::{Body, Credentials, Format, Framing, Item, Overflow};
use auditmon_core::delivery::Receipt;
use auditmon_core::plugin::{PluginError, Sink, Start};
use auditmon_core::subscription::Events;
use auditmon_journal::Gap;
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::client::{Answer, Client};
use crate::order::Order;
use crate::round::{Answered, Round};

/// Most bytes of an event that is sent alone.
const MAX_ALONE: usize = 4 << 20;

/// The sink.
pub(crate) struct Webhook {
    client: Client,
    format: Format,
    credentials: Credentials,
    framing: Framing,
    max_body: usize,
    workers: usize,
    order: Order,
    answered: Answered,
}

/// An event to send.
struct Job<'e> {
    item: Item<'e>,
    id: Uuid,
    key: u64,
}

impl Job<'_> {
    fn seq(&self) -> u64 {
        self.item.seq
    }
}

impl Webhook {
    pub(crate) fn new(
        client: Client,
        (format, credentials): (Format, Credentials),
        framing: Framing,
        max_body: usize,
        workers: usize,
        order: Order,
    ) -> Self {
        Self {
            client,
            format,
            credentials,
            framing,
            max_body,
            workers,
            order,
            answered: Answered::default(),
        }
    }

    /// Events by worker: those of one key are one worker's.
    fn lanes<'e>(&self, events: &'e Events) -> Vec<VecDeque<Job<'e>>> {
        let mut lanes: Vec<VecDeque<_>> = (0..self.workers).map(|_| VecDeque::new()).collect();
        for event in events.iter().filter(|event| !self.answered.contains(event.seq)) {
            let item = Item::new(events.origin(), &event);
            // What the format has nothing to say of is delivered by that.
            if !self.format.takes(&item) {
                continue;
            }
            let key = self.order.key(event.canonical);
            let lane = usize::try_from(key % self.workers as u64).unwrap_or(0);
            lanes[lane].push_back(Job {
                item,
                id: event.id,
                key,
            });
        }
        lanes.retain(|lane| !lane.is_empty());
        lanes
    }

    /// One worker: sends its events one request after the other. What is refused as a whole is halved until the events
    /// that are to blame stand alone.
    async fn work(&self, lane: VecDeque<Job<'_>>, round: &Round) {
        // Keys of which an event waits: what follows has to wait, too.
        let mut held = HashSet::new();
        // The last is sent first.
        let mut queues = vec![lane];
        while let Some(queue) = queues.last_mut() {
            if round.stopped() {
                break;
            }
            let (mut jobs, body) = self.fill(queue, &held, round);
            if queue.is_empty() {
                queues.pop();
            }
            if jobs.is_empty() {
                continue;
            }
            let content_type = body.content_type();
            match self.client.post(&id(&jobs), content_type, body.finish()).await {
                Answer::Delivered => {
                    self.answered.delivered(jobs.iter().map(Job::seq));
                    round.success();
                }
                Answer::Refused(reason) => {
                    round.success();
                    let right = jobs.split_off(jobs.len().div_ceil(2));
                    if right.is_empty() {
                        self.answered.refused(jobs[0].seq(), reason);
                    } else {
                        queues.push(right.into());
                        queues.push(jobs.into());
                    }
                }
                Answer::Later(later) => {
                    round.failure(later);
                    held.extend(jobs.iter().map(|job| job.key));
                    round.pending(jobs.iter().map(Job::seq));
                }
                Answer::Gone(reason) => round.gone(reason),
            }
        }
        round.pending(queues.iter().flatten().map(Job::seq));
    }

    /// Takes as many events as one body holds, at least one unless all have to wait.
    fn fill<'e>(&self, queue: &mut VecDeque<Job<'e>>, held: &HashSet<u64>, round: &Round) -> (Vec<Job<'e>>, Body<'_>) {
        let new = |limit| Body::new(&self.format, self.framing, limit).with(&self.credentials);
        let (mut jobs, mut body) = (Vec::new(), new(self.max_body));
        while let Some(job) = queue.pop_front() {
            if held.contains(&job.key) {
                round.pending([job.seq()].into_iter());
                continue;
            }
            match body.push(&job.item) {
                Ok(()) => jobs.push(job),
                Err(Overflow::Full) => {
                    queue.push_front(job);
                    break;
                }
                Err(Overflow::TooLarge { .. }) => {
                    body = new(MAX_ALONE);
                    match body.push(&job.item) {
                        Ok(()) => {
                            jobs.push(job);
                            break;
                        }
                        Err(error) => self.answered.refused(job.seq(), error.to_string()),
                    }
                    body = new(self.max_body);
                }
            }
        }
        (jobs, body)
    }
}

/// `webhook-id`: the event's id, or for several a hash of theirs. The same events have the same one, whenever they are
/// sent.
fn id(jobs: &[Job<'_>]) -> String {
    if let [job] = jobs {
        return job.id.to_string();
    }
    let mut hash = Sha256::new();
    for job in jobs {
        hash.update(job.id.as_bytes());
    }
    format!("batch_{}", hex::encode(&hash.finalize()[..16]))
}

#[async_trait]
impl Sink for Webhook {
    async fn start(&mut self, _origin: &str) -> Result<Start, PluginError> {
        Ok(Start::Cursor)
    }

    async fn write(&mut self, events: &Events) -> Result<Receipt, PluginError> {
        let (this, round) = (&*self, Round::default());
        let lanes = this.lanes(events);
        join_all(lanes.into_iter().map(|lane| this.work(lane, &round))).await;
        round.end(&self.answered, events).map_err(PluginError::permanent)
    }

    async fn gap(&mut self, _gap: &Gap) -> Result<(), PluginError> {
        // The runtime tells of it in an event of its own, which arrives here like any other.
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<(), PluginError> {
        Ok(())
    }
}

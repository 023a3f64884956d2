use super::*;

fn record(serial: u32, len: usize) -> Vec<u8> {
    let mut payload = format!("audit(1.000:{serial}): ").into_bytes();
    payload.resize(len.max(payload.len()), b'x');
    payload
}

fn drain(consumer: &mut Consumer) -> Vec<u32> {
    let mut serials = Vec::new();
    while let Taken::Chunk(chunk) = consumer.take(Duration::ZERO) {
        serials.extend(chunk.entries().filter_map(|entry| serial_of(entry.payload)));
        consumer.recycle(chunk);
    }
    serials
}

#[test]
fn gives_back_what_was_put_in_in_order() {
    let (producer, mut consumer) = ring(1 << 20);
    assert!(producer.push(1300, false, 77, b"audit(1.000:1): a"));
    assert!(producer.push(OVERRUN, true, 78, b""));
    let Taken::Chunk(chunk) = consumer.take(Duration::from_secs(1)) else {
        panic!("nothing came");
    };
    let entries: Vec<Entry<'_>> = chunk.entries().collect();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].kind, 1300);
    assert_eq!(entries[0].payload, b"audit(1.000:1): a");
    assert_eq!((entries[0].arrival, entries[0].truncated), (77, false));
    assert_eq!((entries[1].kind, entries[1].truncated), (OVERRUN, true));
    assert!(matches!(consumer.take(Duration::ZERO), Taken::Nothing));
}

#[test]
fn a_full_ring_drops_and_names_every_serial() {
    let (producer, mut consumer) = ring(CHUNK);
    let mut taken = 0;
    for serial in 1..=1000 {
        taken += u32::from(producer.push(1300, false, 0, &record(serial, 1000)));
    }
    let dropped = consumer.take_dropped();
    assert_eq!(dropped.records, u64::from(1000 - taken));
    assert_eq!(dropped.serials.ranges(), [(taken + 1, 1000)]);
    assert_eq!(drain(&mut consumer), (1..=taken).collect::<Vec<u32>>());
    assert_eq!(consumer.take_dropped(), Dropped::default());
    assert!(producer.push(1300, false, 0, &record(1001, 1000)));
}

#[test]
fn stays_within_its_capacity() {
    let (producer, consumer) = ring(2 << 20);
    for serial in 0..10_000 {
        producer.push(1300, false, 0, &record(serial, 777));
    }
    assert!(consumer.level().0 <= 2 << 20);
    assert!(consumer.level().0 > (2 << 20) - 800);
}

#[test]
fn a_record_longer_than_a_chunk_goes_through() {
    let (producer, mut consumer) = ring(2 << 20);
    assert!(producer.push(1300, false, 0, &record(1, 10)));
    assert!(producer.push(1300, false, 0, &record(2, CHUNK + 5)));
    assert!(producer.push(1300, false, 0, &record(3, 10)));
    assert_eq!(drain(&mut consumer), [1, 2, 3]);
}

#[test]
fn the_end_of_the_producer_wakes_the_consumer() {
    let (producer, mut consumer) = ring(1 << 20);
    let thread = std::thread::spawn(move || {
        let start = Instant::now();
        assert!(matches!(consumer.take(Duration::from_secs(20)), Taken::Closed));
        start.elapsed()
    });
    std::thread::sleep(Duration::from_millis(50));
    drop(producer);
    assert!(thread.join().unwrap() < Duration::from_secs(5));
}

#[test]
fn nothing_is_lost_between_two_threads() {
    let (producer, mut consumer) = ring(DEFAULT_CAPACITY);
    let writer = std::thread::spawn(move || {
        for serial in 0..200_000 {
            while !producer.push(1300, false, 0, &record(serial, 200)) {
                std::thread::yield_now();
            }
        }
    });
    let mut next = 0;
    loop {
        match consumer.take(Duration::from_secs(10)) {
            Taken::Chunk(chunk) => {
                for entry in chunk.entries() {
                    assert_eq!(serial_of(entry.payload), Some(next));
                    next += 1;
                }
                consumer.recycle(chunk);
            }
            Taken::Nothing => panic!("starved"),
            Taken::Closed => break,
        }
    }
    writer.join().unwrap();
    assert_eq!(next, 200_000);
}

#[test]
fn a_waker_ends_the_wait() {
    let (_producer, mut consumer) = ring(1 << 20);
    let waker = consumer.waker();
    waker.wake();
    let start = Instant::now();
    assert!(matches!(consumer.take(Duration::from_secs(20)), Taken::Nothing));
    let thread = std::thread::spawn(move || consumer.take(Duration::from_secs(20)));
    std::thread::sleep(Duration::from_millis(20));
    waker.wake();
    assert!(matches!(thread.join().unwrap(), Taken::Nothing));
    assert!(start.elapsed() < Duration::from_secs(5));
}

//! placeholder
use auditmon_journal::*;
use auditmon_journal::format::*;
use std::time::Duration;
#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = Prefix { event_id: [7; 16], received_ns: 5, kind: Kind::Application, source: source_hash("x") };
    let mk = || Options::new(dir.path(), "h", Box::new(move |n, r: &mut Records| { r.push(&Prefix{kind: Kind::Agent, ..prefix}, [1;16], |o| o.extend(format!("{n:?}").bytes())).unwrap(); }));
    for round in 0..3 {
        let (w, o) = open(RealFs, mk()).unwrap();
        eprintln!("{o:?}");
        assert!(o.clean_stop);
        let h = w.spawn(Box::new(|_| {})).unwrap();
        let (tx, rx) = std::sync::mpsc::channel();
        for i in 0..10 {
            let mut r = Records::new();
            r.push(&prefix, [i; 16], |o| o.extend(b"hello")).unwrap();
            r.push_state("x", [1;16], 5, [2;16], b"k", 0, &[round, i]).unwrap();
            let tx = tx.clone();
            h.submit(r, Linger::NONE, Box::new(move |x| tx.send(x).unwrap()));
        }
        for _ in 0..10 { eprintln!("{:?}", rx.recv().unwrap()); }
        let mut rd = h.reader(0);
        let mut n = 0;
        while let Some(i) = rd.next().unwrap() { match i { Item::Records(b) => n += b.iter().count(), g => panic!("{g:?}") } }
        assert_eq!(n as u64, h.durable());
        eprintln!("{:?}", h.status());
        assert!(h.close(Duration::from_secs(5)));
        let rep = fsck::check(&RealFs, dir.path()).unwrap();
        assert!(rep.is_clean(), "{rep:?}");
        eprintln!("{rep:?}");
    }
}

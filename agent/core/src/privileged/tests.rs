use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("auditmon-core-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        let mut options = std::fs::File::options();
        let mut file = options.write(true).create(true).mode(mode).open(&path).unwrap();
        file.write_all(b"content").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn public(path: &Path) -> ConfiguredFile {
    ConfiguredFile {
        path: path.to_owned(),
        secret: false,
    }
}

fn secret(path: &Path) -> ConfiguredFile {
    ConfiguredFile {
        path: path.to_owned(),
        secret: true,
    }
}

#[test]
fn work_is_done_on_one_thread_of_its_own() {
    let control = Control::of_caller(Vec::new()).unwrap();
    let name = || std::thread::current().name().map(str::to_owned);
    let id = || std::thread::current().id();
    assert_eq!(control.run("naming", name).unwrap().as_deref(), Some("control"));
    let first = control.run("looking", id).unwrap();
    assert_ne!(first, std::thread::current().id());
    let other = control.clone();
    let second = std::thread::spawn(move || other.run("looking", id)).join().unwrap();
    assert_eq!(second, Ok(first));
}

#[test]
fn a_panic_is_an_answer_and_the_thread_goes_on() {
    let control = Control::of_caller(Vec::new()).unwrap();
    let result: Result<(), _> = control.run("breaking", || panic!("on purpose"));
    assert_eq!(result, Err(ControlError::Panicked { what: "breaking" }));
    assert_eq!(control.run("adding", || 1 + 1), Ok(2));
}

#[test]
fn work_may_ask_for_more() {
    let control = Control::of_caller(Vec::new()).unwrap();
    let inner = control.clone();
    let result = control.run("outside", move || inner.run("inside", || 7));
    assert_eq!(result, Ok(Ok(7)));
}

#[test]
fn what_hangs_is_named_and_what_waited_behind_it_is_never_begun() {
    let control = Control::of_caller(Vec::new()).unwrap();
    let hasty = control.within(Duration::from_millis(20));
    let (release, released) = channel::<()>();
    let result = hasty.run("hanging", move || released.recv());
    assert_eq!(
        result.unwrap_err(),
        ControlError::Unfinished {
            what: "hanging",
            seconds: 0
        }
    );
    let (tell, told) = channel();
    let result = hasty.run("waiting", move || tell.send(()));
    let error = result.unwrap_err();
    assert!(
        matches!(error, ControlError::NotBegun { what: "waiting", .. }),
        "{error}"
    );
    assert!(error.to_string().contains("busy (hanging, for 0 s)"), "{error}");
    // As many may wait as the queue has room for; they are counted, since one waits already.
    let callers: Vec<_> = (0..63).map(|_| hasty.run("queued", || ()).unwrap_err()).collect();
    assert!(
        callers
            .iter()
            .all(|error| matches!(error, ControlError::NotBegun { .. }))
    );
    let refused = hasty.run("refused", || ()).unwrap_err();
    assert!(matches!(refused, ControlError::Busy { .. }), "{refused}");
    release.send(()).unwrap();
    // It goes on in order, so what was given up has been passed over by now.
    while control.run("again", || ()).is_err() {}
    assert!(told.recv().is_err(), "what was given up was done all the same");
}

#[test]
fn the_thread_ends_with_its_last_handle() {
    let (ended, end) = channel::<()>();
    let (control, files) = Control::start(move || {
        // Dropped with the thread's closure's thread-local.
        thread_local!(static KEPT: std::cell::RefCell<Option<std::sync::mpsc::Sender<()>>> = const { std::cell::RefCell::new(None) });
        KEPT.with(|kept| *kept.borrow_mut() = Some(ended));
        Ok(())
    })
    .unwrap();
    drop((control, files));
    assert!(end.recv().is_err());
}

#[test]
fn a_thread_that_cant_be_prepared_is_no_thread() {
    let error = Control::start(|| Err(std::io::Error::other("no"))).unwrap_err();
    assert_eq!(error.to_string(), "no");
}

#[test]
fn only_configured_files_are_opened() {
    let dir = Dir::new("configured");
    let (named, other) = (dir.file("named", 0o644), dir.file("other", 0o644));
    let (control, files) = Control::start(|| Ok(())).unwrap();
    assert!(matches!(control.read_file(&named), Err(FileError::NotConfigured(_))));
    files.replace(vec![public(&named)]);
    assert_eq!(control.read_file(&named).unwrap(), b"content");
    let error = control.read_file(&other).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("other: not a file that the configuration names"),
        "{error}"
    );
    // Another spelling is another path.
    let around = dir.0.join("..").join(dir.0.file_name().unwrap()).join("named");
    assert!(around.exists() && control.open(&around).is_err());
    // Who loads a configuration sees more, and no secret that is none.
    assert_eq!(files.read(&public(&other)).unwrap(), b"content");
    assert!(matches!(files.read(&secret(&other)), Err(FileError::Exposed { .. })));
    assert!(matches!(secret(&other).read(), Err(FileError::Exposed { .. })));
    files.replace(vec![public(&other)]);
    assert!(control.read_file(&named).is_err());
    assert_eq!(control.read_file(&other).unwrap(), b"content");
}

#[test]
fn a_secret_that_others_may_read_is_refused_with_the_remedy() {
    let dir = Dir::new("secret");
    let path = dir.file("key.pem", 0o600);
    // Named twice: the stricter name counts.
    let control = Control::of_caller(vec![public(&path), secret(&path)]).unwrap();
    for good in [0o600, 0o400, 0o700] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(good)).unwrap();
        assert_eq!(control.read_file(&path).unwrap(), b"content", "{good:o}");
    }
    for bad in [0o640, 0o604, 0o620, 0o644, 0o601, 0o660] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bad)).unwrap();
        let error = control.read_file(&path).unwrap_err().to_string();
        let path = path.display();
        assert_eq!(
            error,
            format!("{path}: mode {bad:04o} lets others than its owner at a secret; chmod 600 {path}")
        );
    }
    let error = std::io::Error::from(control.read_file(&path).unwrap_err());
    let remedy = format!(
        "mode 0660 lets others than its owner at a secret; chmod 600 {}",
        path.display()
    );
    assert_eq!(error.to_string(), remedy);
    let certificate = Control::of_caller(vec![public(&path)]).unwrap();
    assert_eq!(certificate.read_file(&path).unwrap(), b"content");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let dir = Dir::new("regular");
    let pipe = dir.0.join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let missing = dir.0.join("missing");
    let files = [&pipe, &dir.0, &missing, Path::new("/dev/null")].map(public);
    let control = Control::of_caller(files.to_vec()).unwrap();
    for path in [pipe.as_path(), &dir.0, Path::new("/dev/null")] {
        assert!(
            matches!(control.open(path), Err(FileError::NotRegular(_))),
            "{}",
            path.display()
        );
    }
    let error = control.open(&missing).unwrap_err().to_string();
    assert!(error.contains("missing: No such file"), "{error}");
}

#[test]
fn a_file_without_end_is_not_read_without_end() {
    let dir = Dir::new("long");
    let path = dir.0.join("long");
    let file = std::fs::File::create(&path).unwrap();
    let control = Control::of_caller(vec![public(&path)]).unwrap();
    file.set_len(MAX_FILE).unwrap();
    assert_eq!(control.read_file(&path).unwrap().len() as u64, MAX_FILE);
    file.set_len(MAX_FILE + 1).unwrap();
    let error = control.read_file(&path).unwrap_err().to_string();
    assert!(error.ends_with("longer than 16 MiB"), "{error}");
}

#[test]
fn a_port_is_listened_on() {
    let control = Control::of_caller(Vec::new()).unwrap();
    let listener = control.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(control.bind(address).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    // Non-blocking: nobody connects, and it returns.
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

//! The load on the kernel, a process of its own.
//!
//! `bench execute spawn RATE SECONDS`: starts `/bin/true` so many times a second.
//! `bench execute fail SECONDS`: tries to execute a file that isn't there, as fast as the kernel lets it.
//! Prints how many there were.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fault;

/// Runs the load.
pub fn main(words: &[&str]) -> Result<(), Fault> {
    let count = match words {
        ["spawn", rate, seconds] => spawn(rate.parse()?, seconds.parse()?)?,
        ["fail", seconds] => fail(seconds.parse()?)?,
        _ => return Err("execute needs spawn RATE SECONDS, or fail SECONDS".into()),
    };
    println!("{count}");
    Ok(())
}

fn spawn(rate: f64, seconds: f64) -> Result<u64, Fault> {
    let begin = Instant::now();
    let mut count = 0;
    let mut command = Command::new("/bin/true");
    command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear();
    while begin.elapsed().as_secs_f64() < seconds {
        let due = begin + Duration::from_secs_f64(count as f64 / rate);
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        command.spawn()?.wait()?;
        count += 1;
    }
    Ok(count)
}

fn fail(seconds: f64) -> Result<u64, Fault> {
    let begin = Instant::now();
    let mut count = 0;
    let mut command = Command::new("/nonexistent/auditmon-bench");
    command.env_clear();
    while begin.elapsed().as_secs_f64() < seconds {
        for _ in 0..50 {
            // Comes back only because there is no such file.
            let error = command.exec();
            if error.kind() != std::io::ErrorKind::NotFound {
                return Err(error.into());
            }
            count += 1;
        }
    }
    Ok(count)
}

//! Nothing that is in flight is let go of, whoever goes away; without a ring nothing hangs.

use std::io::Write as _;
use std::sync::Weak;

use tokio::runtime::{Builder, Runtime};

use super::*;

const LEN: usize = 3 << 20;

fn bytes() -> Vec<u8> {
    (0..LEN as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn file() -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes()).unwrap();
    file.sync_all().unwrap();
    Arc::new(file)
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn hold() -> (Hold, Weak<dyn Any + Send + Sync>) {
    let hold: Hold = Arc::new(());
    let weak = Arc::downgrade(&hold);
    (hold, weak)
}

/// Whether this machine has io_uring; the rest is of no use without.
fn is_there() -> bool {
    RING.is_some()
}

async fn got(file: &Arc<File>, offset: usize, len: usize) -> Vec<u8> {
    let reading = read(file, (offset as u64, len), 0..len, &hold().0).unwrap();
    match reading.await {
        Outcome::Read(bytes) => bytes.to_vec(),
        Outcome::Refused | Outcome::Failed => panic!("{offset} {len}"),
    }
}

#[test]
fn many_at_once_read_what_is_in_the_file() {
    if !is_there() {
        return;
    }
    let (file, bytes) = (file(), Arc::new(bytes()));
    runtime().block_on(async {
        let reader = |reader: usize| {
            let (file, bytes) = (Arc::clone(&file), Arc::clone(&bytes));
            tokio::spawn(async move {
                for i in 0..200 {
                    let offset = (reader * 7919 + i * 104_729) % (LEN - 70_000);
                    let len = 1 + (i * 977) % 70_000;
                    assert_eq!(got(&file, offset, len).await, bytes[offset..offset + len]);
                }
            })
        };
        let readers: Vec<_> = (0..16).map(reader).collect();
        for reader in readers {
            reader.await.unwrap();
        }
    });
}

#[test]
fn what_is_beyond_the_end_is_not_made_up() {
    if !is_there() {
        return;
    }
    let file = file();
    runtime().block_on(async {
        let read = |part: Range<usize>| read(&file, (LEN as u64 - 10, 4096), part, &hold().0);
        assert!(matches!(read(0..10).unwrap().await, Outcome::Read(bytes) if bytes.len() == 10));
        assert!(matches!(read(0..11).unwrap().await, Outcome::Failed));
    });
}

#[test]
fn a_caller_that_goes_away_leaves_its_hold_until_the_kernel_is_done() {
    if !is_there() {
        return;
    }
    // Nobody writes to the pipe yet, so that the read stays with the kernel.
    let (reader, mut writer) = io::pipe().unwrap();
    let pipe = Arc::new(File::from(std::os::fd::OwnedFd::from(reader)));
    let (hold, weak) = hold();
    runtime().block_on(async {
        let reading = read(&pipe, (u64::MAX, 4096), 0..4096, &hold).unwrap();
        drop(hold);
        let gone = tokio::spawn(async move { drop(reading) });
        gone.await.unwrap();
        tokio::task::yield_now().await;
        assert!(weak.upgrade().is_some(), "the kernel may still write");
        writer.write_all(&[1; 4096]).unwrap();
        while weak.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn when_a_runtime_ends_another_one_watches() {
    if !is_there() {
        return;
    }
    let (file, bytes) = (file(), bytes());
    let (first, second) = (runtime(), runtime());
    assert_eq!(first.block_on(got(&file, 5, 100)), bytes[5..105]);
    let (reader, mut writer) = io::pipe().unwrap();
    let pipe = Arc::new(File::from(std::os::fd::OwnedFd::from(reader)));
    let waiting = second.spawn(async move { got(&pipe, usize::MAX, 3).await });
    drop(first);
    writer.write_all(b"abc").unwrap();
    assert_eq!(second.block_on(waiting).unwrap(), b"abc");
    assert_eq!(second.block_on(got(&file, 0, LEN)), bytes);
}

#[test]
fn without_a_runtime_there_is_no_read() {
    if is_there() && !RING.as_ref().unwrap().watched.load(Ordering::Acquire) {
        assert!(read(&file(), (0, 10), 0..10, &hold().0).is_none());
    }
}

//! The service: order, neighbours, cancelled bodies, fairness, panics, memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use md5::{Digest as _, Md5 as Reference};
use proptest::prelude::*;

use super::*;

fn noise(len: usize, seed: usize) -> Bytes {
    let byte = |at: usize| (at.wrapping_mul(31) ^ at >> 7 ^ seed.wrapping_mul(73)) as u8;
    (0..len).map(byte).collect()
}

fn reference(bytes: &[u8]) -> [u8; 16] {
    Reference::digest(bytes).into()
}

async fn hash(lanes: &Lanes, pieces: &[Bytes]) -> Result<[u8; 16], Lost> {
    let mut stream = lanes.open(Md5::default());
    for piece in pieces {
        stream.push(piece.clone(), None).await?;
        tokio::task::yield_now().await;
    }
    stream.finish().await
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// Lengths around the ends of blocks and of what padding fits into.
fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        prop::sample::select(vec![
            0usize, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129
        ]),
        0usize..5000,
        30_000usize..80_000,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any bodies in any pieces at once, some of them given up mid-way, on every kernel.
    #[test]
    fn bodies_side_by_side_have_the_digests_of_the_reference(
        bodies in prop::collection::vec((prop::collection::vec(len(), 0..6), 0u8..5), 1..40),
        threads in 1usize..3,
    ) {
        for kernel in Kernel::available() {
            let lanes = Lanes::new(kernel, threads);
            let bodies: Vec<(Vec<Bytes>, bool)> = bodies
                .iter()
                .enumerate()
                .map(|(at, (lens, fate))| {
                    (lens.iter().map(|len| noise(*len, at)).collect(), *fate == 0)
                })
                .collect();
            let digests = runtime().block_on(join_all(bodies.iter().map(async |(pieces, cancel)| {
                if !cancel {
                    return Some(hash(&lanes, pieces).await);
                }
                let mut stream = lanes.open(Md5::default());
                for piece in pieces {
                    stream.push(piece.clone(), None).await.unwrap();
                }
                None
            })));
            for ((pieces, _), digest) in bodies.iter().zip(digests) {
                if let Some(digest) = digest {
                    prop_assert_eq!(digest, Ok(reference(&pieces.concat())), "{:?}", kernel);
                }
            }
            let state = lanes.shared.lock();
            prop_assert_eq!((state.bodies.len(), state.ready.len(), state.urgent), (0, 0, 0));
        }
    }
}

#[test]
fn many_bodies_share_rows_and_a_lone_one_waits_for_none() {
    let lanes = Lanes::new(Kernel::best(), 1);
    let bodies: Vec<Vec<Bytes>> = (0..16).map(|at| vec![noise(1 << 20, at); 2]).collect();
    let digests = runtime().block_on(join_all(bodies.iter().map(|pieces| hash(&lanes, pieces))));
    for (pieces, digest) in bodies.iter().zip(digests) {
        assert_eq!(digest, Ok(reference(&pieces.concat())));
    }
    let counts = lanes.counts();
    assert_eq!(counts.bytes, 32 << 20);
    // On the average, a third of the lanes was taken; more where nothing else runs.
    let row = Kernel::best().row().min(16) as u64;
    assert!(
        counts.row_blocks * row * 64 <= counts.bytes * 3,
        "{counts:?}"
    );
}

/// Something that is held until a piece is hashed or given up.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_body_waits_when_too_many_of_its_pieces_do_and_holds_nothing_when_it_is_gone() {
    let (begin, hold) = std::sync::mpsc::sync_channel::<()>(0);
    let hold = Mutex::new(hold);
    let compress = move |lanes: &mut [Lane<'_>]| {
        let _ = hold.lock().unwrap().recv();
        Kernel::Single.compress(lanes);
    };
    let lanes = Lanes::with(Kernel::Single, Box::new(compress), 1);
    let gone = Arc::new(AtomicUsize::new(0));
    runtime().block_on(async {
        let mut stream = lanes.open(Md5::default());
        let held = || -> Held { Some(Arc::new(Counted(Arc::clone(&gone)))) };
        for _ in 0..PIECES_MAX {
            stream.push(noise(100, 1), held()).await.unwrap();
        }
        {
            let more = std::pin::pin!(stream.push(noise(100, 1), None));
            assert!(futures::poll!(more).is_pending());
        }
        assert_eq!(gone.load(Ordering::SeqCst), 0);
        drop(stream);
        // The thread has one of them until its turn ends.
        assert!(gone.load(Ordering::SeqCst) >= PIECES_MAX - 1);
        drop(begin);
        assert_eq!(
            hash(&lanes, &[noise(1000, 2)]).await,
            Ok(reference(&noise(1000, 2)))
        );
        assert_eq!(gone.load(Ordering::SeqCst), PIECES_MAX);
    });
}

#[test]
fn a_short_body_does_not_wait_for_the_end_of_long_ones() {
    let lanes = Lanes::new(Kernel::Single, 1);
    runtime().block_on(async {
        let mut long = lanes.open(Md5::default());
        for _ in 0..PIECES_MAX {
            long.push(noise(8 << 20, 1), None).await.unwrap();
        }
        let short = noise(100_000, 2);
        assert_eq!(
            hash(&lanes, std::slice::from_ref(&short)).await,
            Ok(reference(&short))
        );
        assert!(!lanes.shared.lock().bodies[&long.id].pieces.is_empty());
    });
}

#[test]
fn a_panic_loses_one_body_and_no_other() {
    let compress = |lanes: &mut [Lane<'_>]| {
        Kernel::best().compress(lanes);
        assert!(
            lanes.iter().all(|lane| lane.blocks[0] != [0xee; 64]),
            "poison"
        );
    };
    let lanes = Lanes::with(Kernel::best(), Box::new(compress), 1);
    let poison = vec![noise(6400, 9), Bytes::from(vec![0xee; 6400])];
    let mut bodies: Vec<Vec<Bytes>> = (0..10).map(|at| vec![noise(6400, at); 3]).collect();
    bodies.insert(4, poison);
    for _ in 0..2 {
        let hashes = bodies.iter().map(|pieces| hash(&lanes, pieces));
        let digests = runtime().block_on(join_all(hashes));
        for (at, (pieces, digest)) in bodies.iter().zip(digests).enumerate() {
            let expected = if at == 4 {
                Err(Lost)
            } else {
                Ok(reference(&pieces.concat()))
            };
            assert_eq!(digest, expected, "{at}");
        }
    }
}

#[test]
fn bodies_are_told_when_the_lanes_close() {
    let lanes = Lanes::new(Kernel::best(), 1);
    runtime().block_on(async {
        let mut stream = lanes.open(Md5::default());
        stream.push(noise(1000, 1), None).await.unwrap();
        drop(lanes);
        assert_eq!(stream.push(noise(1000, 1), None).await, Err(Lost));
    });
}

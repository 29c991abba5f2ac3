//! Random bodies, ranges and failures against the plain bytes.

use enfilade_cluster::api::record::Layout;
use enfilade_placement::Profile;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::{Cluster, content, noise, profile};

/// Lengths around the limits of layouts, stripes and runs, and between.
fn length() -> impl Strategy<Value = usize> {
    let around = |at: usize| (at.saturating_sub(2)..at + 3).boxed();
    prop_oneof![
        Just(0),
        around(2048),
        around(4096),
        around(8192),
        around(16384),
        around(32768),
        around(65536),
        0..300_000usize
    ]
}

fn profiles() -> impl Strategy<Value = Profile> {
    prop_oneof![Just("2+1"), Just("4+2"), Just("8+3")].prop_map(profile)
}

/// 48 cases, unless PROPTEST_CASES says otherwise.
fn config() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(48),
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_body_reads_back_whole_and_in_ranges(
        profile in profiles(), len in length(), piece in 1usize..70_000,
        ranges in any::<[(u64, u64); 4]>(), seed in any::<u64>(), announced in any::<bool>()
    ) {
        run(async move {
            let width = profile.width() as u32;
            let cluster = Cluster::start(profile, width, |s| s.inline_limit = 2048).await;
            let bytes = noise(len, seed);
            let written = if announced {
                cluster.write(&bytes, piece).await.unwrap()
            } else {
                let body = cluster.body("key", super::pieces(&bytes, piece));
                cluster.path.write(body).await.unwrap()
            };
            prop_assert_eq!(written.blob.len, len as u64);
            let content = content(&written);
            prop_assert_eq!(&cluster.read(&content, 0..u64::MAX).await.unwrap(), &bytes);
            for (start, end) in ranges {
                let start = start % (len as u64 + 1);
                let end = start + end % (len as u64 - start + 1);
                let read = cluster.read(&content, start..end).await.unwrap();
                prop_assert_eq!(&read, &bytes[start as usize..end as usize]);
            }
            prop_assert_eq!(cluster.path.inner.write_budget.used(), 0);
            prop_assert_eq!(cluster.path.inner.read_budget.used(), 0);
            Ok(())
        })?;
    }

    #[test]
    fn with_members_lost_in_the_middle_and_m_down_afterwards_every_acked_byte_is_there(
        profile in profiles(), len in 10_000usize..400_000, piece in 1000usize..70_000,
        seed in any::<u64>(), lost in any::<[(u32, u32); 2]>(), down in any::<u32>()
    ) {
        run(async move {
            // So many enclosures that volumes without the lost ones are left.
            let enclosures = 2 * profile.width() as u32 + 2;
            let cluster = Cluster::start(profile, enclosures, |s| s.inline_limit = 2048).await;
            for (enclosure, appends) in &lost[..profile.m().min(2)] {
                cluster.nodes.at(enclosure % enclosures + 1).stop_after_appends(appends % 4);
            }
            let bytes = noise(len, seed);
            let written = cluster.write(&bytes, piece).await.unwrap();
            // All come back, and any m in a row go.
            for enclosure in 1..=enclosures {
                cluster.nodes.at(enclosure).stop_after_appends(u32::MAX);
                cluster.nodes.at(enclosure).start();
            }
            for lost in 0..profile.m() as u32 {
                cluster.nodes.at((down.wrapping_add(lost)) % enclosures + 1).stop();
            }
            let read = cluster.read(&content(&written), 0..u64::MAX).await.unwrap();
            prop_assert_eq!(read, bytes);
            prop_assert_eq!(cluster.path.inner.write_budget.used(), 0);
            Ok(())
        })?;
    }

    #[test]
    fn up_to_m_absent_or_corrupt_fragments_a_stripe_do_no_harm_and_more_are_an_error(
        profile in profiles(), len in 5_000usize..200_000, seed in any::<u64>(),
        bounds in any::<(u64, u64)>()
    ) {
        run(async move {
            let width = profile.width();
            let cluster = Cluster::start(profile, width as u32, |s| s.inline_limit = 2048).await;
            let bytes = noise(len, seed);
            let written = cluster.write(&bytes, 50_000).await.unwrap();
            let content = cluster.commit("key", &written).await;
            let volume = cluster.volume_of(&written.blob).await;
            let mut random = enfilade_placement::seed::SplitMix64::new(seed);
            let stored = cluster.path.shape_of(&written.blob).unwrap();
            let stripes = len.div_ceil(stored.stripe_len() as usize) as u32;
            let mut members: Vec<usize> = stored.stored().collect();
            for stripe in 0..stripes {
                random.shuffle(&mut members);
                for member in &members[..profile.m()] {
                    let node = cluster.nodes.at(cluster.enclosure(&volume, *member));
                    let drive = volume.members[*member].unwrap();
                    let at = (written.blob.id, stripe);
                    assert!(node.corrupt(drive, volume.id, *member as u8, at));
                }
            }
            prop_assert_eq!(&cluster.read(&content, 0..u64::MAX).await.unwrap(), &bytes);
            let start = bounds.0 % len as u64;
            let end = start + 1 + bounds.1 % (len as u64 - start);
            let part = cluster.read(&content, start..end).await.unwrap();
            prop_assert_eq!(&part, &bytes[start as usize..end as usize]);
            // One more of the last stripe: lost, unless none of them holds any of its bytes.
            let lost = &members[..=profile.m()];
            let last = lost[profile.m()];
            let node = cluster.nodes.at(cluster.enclosure(&volume, last));
            let at = (written.blob.id, stripes - 1);
            assert!(node.corrupt(volume.members[last].unwrap(), volume.id, last as u8, at));
            let unit = u64::from(stored.unit_at(stripes - 1, len as u64));
            let rest = len as u64 - u64::from(stripes - 1) * stored.stripe_len();
            let holds = |member: &usize| match stored.layout {
                Layout::Full => (*member as u64) < rest.div_ceil(unit),
                Layout::Shortened => true,
            };
            match cluster.read(&content, 0..u64::MAX).await {
                Ok(read) => prop_assert!(!lost.iter().any(holds) && read == bytes),
                Err(error) => {
                    prop_assert!(matches!(error, super::ReadError::Lost { .. }), "{}", error);
                    prop_assert!(lost.iter().any(holds));
                }
            }
            Ok(())
        })?;
    }
}

//! End to end: the program as a user runs it, and an S3 client as most users have one.

#![expect(
    clippy::too_many_lines,
    reason = "what a client does with one subject is one story, told in order"
)]

#[path = "e2e/buckets.rs"]
mod buckets;
#[path = "e2e/cluster.rs"]
mod cluster;
#[path = "e2e/connector.rs"]
mod connector;
#[path = "e2e/drives.rs"]
mod drives;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/growth.rs"]
mod growth;
#[path = "e2e/kept.rs"]
mod kept;
#[path = "e2e/listing.rs"]
mod listing;
#[path = "e2e/losses.rs"]
mod losses;
#[path = "e2e/multipart.rs"]
mod multipart;
#[path = "e2e/objects.rs"]
mod objects;
#[path = "e2e/refusals.rs"]
mod refusals;
#[path = "e2e/replicas.rs"]
mod replicas;
#[path = "e2e/rot.rs"]
mod rot;
#[path = "e2e/starts.rs"]
mod starts;
#[path = "e2e/versions.rs"]
mod versions;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use cluster::Cluster;

/// Status and code of a request that must be refused.
#[track_caller]
fn refused<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, SdkError<E, HttpResponse>>,
) -> (u16, String) {
    let error = result.expect_err("it must be refused");
    let status = error
        .raw_response()
        .map_or(0, |response| response.status().as_u16());
    (status, error.code().unwrap_or_default().to_owned())
}

/// What a refusal is compared with.
fn answer(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_client_finds_all_of_s3_and_a_restart_keeps_everything() {
    let mut cluster = Cluster::start(&[]).await;
    let client = cluster.client();
    tokio::join!(
        buckets::come_and_go(&client),
        objects::are_what_was_written(&client),
        objects::have_conditions(&client),
        objects::are_copied_and_deleted(&client),
        objects::have_verified_checksums(&client),
        listing::pages_and_folds(&client),
        multipart::makes_objects_of_parts(&client),
        multipart::copies_lists_and_aborts(&client),
        refusals::are_clear(&cluster),
        versions::are_kept_and_counted(&cluster),
    );
    let kept = kept::write(&client).await;
    cluster.await_health(true).await;
    cluster.stop().await;
    cluster.up().await;
    kept.check(&cluster.client()).await;
    let added = cluster.admin(&["enclosure", "add"]).await.unwrap();
    assert_eq!(added["id"], 7);
    losses::await_volume_on(&cluster, 7).await;
    cluster.await_health(true).await;
    kept.check(&cluster.client()).await;
    cluster.stop().await;
    cluster.up().await;
    kept.check(&cluster.client()).await;
    assert_eq!(
        cluster.status().await["enclosures"]
            .as_array()
            .unwrap()
            .len(),
        7
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drives_that_fail_are_told_with_the_reason_and_nothing_is_lost() {
    faults::of_drives_are_told_and_lose_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drives_are_moved_and_replaced_while_one_process_runs() {
    drives::are_moved_unplugged_and_replaced(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drives_are_moved_and_replaced_while_many_processes_run() {
    drives::are_moved_unplugged_and_replaced(&["--processes", "--drives", "2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_shrinks_and_repairs_itself_in_one_process() {
    growth::and_shrinkage_and_repair(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_shrinks_and_repairs_itself_in_many_processes() {
    growth::and_shrinkage_and_repair(&["--processes"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_enclosures_may_be_killed_and_come_back() {
    losses::of_two_enclosures().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_replicas_that_are_lost_for_good_are_replaced_and_others_may_be_lost() {
    replicas::are_replaced_grow_and_move().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_survives_the_kill_of_everything() {
    losses::of_everything_at_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rot_is_repaired_under_a_running_cluster() {
    rot::is_repaired_under_a_running_cluster().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_cannot_work_says_why_and_changes_nothing() {
    starts::are_refused_in_words().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_has_one_cluster_also_when_its_parent_is_dead() {
    starts::are_exclusive().await;
}

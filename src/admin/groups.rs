//! Metadata groups: the operator's commands, and what the admin API does for them.

use anyhow::Result;
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::RootCommand;
use enfilade_placement::replicas::REPLICAS_MAX;
use enfilade_placement::{EnclosureId, PartitionId};
use hyper::StatusCode;

use crate::admin::commands::{client, print, show};
use crate::admin::model;
use crate::admin::orders::order;
use crate::admin::plans::Failure;
use crate::admin::render;
use crate::admin::status::{Facts, group_name};
use crate::cli::partition::{PartitionCommand, PartitionMoveArgs, PartitionReplicasArgs};

/// `enfilade partition ...`.
pub(crate) async fn run(command: &PartitionCommand) -> Result<()> {
    match command {
        PartitionCommand::List(args) => {
            show(args, "groups", |groups: &Vec<model::Group>| {
                render::groups(groups)
            })
            .await
        }
        PartitionCommand::Move(args) => move_replica(args).await,
        PartitionCommand::Replicas(args) => set_most(args).await,
    }
}

async fn move_replica(args: &PartitionMoveArgs) -> Result<()> {
    let path = format!("groups/{}/move", args.group);
    let body = model::MoveReplica {
        from: args.from.get(),
        to: args.to.get(),
    };
    let begun: model::ReplicasBegun = client(&args.admin)?.post(&path, &body).await?;
    print(&args.admin, &begun, || {
        let to: Vec<String> = begun.to.iter().map(u32::to_string).collect();
        format!(
            "{} is on its way to enclosures {}\n",
            group_name(begun.group),
            to.join(" ")
        )
    })
}

async fn set_most(args: &PartitionReplicasArgs) -> Result<()> {
    let body = model::SetReplicas { most: args.most };
    let set: model::SetReplicas = client(&args.admin)?.post("groups", &body).await?;
    print(&args.admin, &set, || match set.most {
        0 => "groups have as many replicas as the erasure code asks for\n".to_owned(),
        most => format!("groups have at most {most} replicas\n"),
    })
}

/// Begins to move a replica.
///
/// # Errors
/// Why not.
pub(crate) async fn begin_move(
    metadata: &dyn MetadataClient,
    facts: &Facts,
    group: u32,
    how: &model::MoveReplica,
) -> Result<model::ReplicasBegun, Failure> {
    let group = PartitionId::new(group);
    let (from, to) = (EnclosureId::new(how.from), EnclosureId::new(how.to));
    let before = facts.view.replicas_of(group).to_vec();
    if !before.contains(&from) {
        let text = format!("group {group} has no replica in enclosure {from}");
        return Err((StatusCode::NOT_FOUND, text));
    }
    let serves = facts.view.topology.enclosures.get(&to);
    if serves.is_none_or(|enclosure| enclosure.meta_address.is_empty()) {
        let text = format!("enclosure {to} is not there, or runs no metadata service");
        return Err((StatusCode::NOT_FOUND, text));
    }
    let mut after: Vec<EnclosureId> = before.iter().copied().filter(|id| *id != from).collect();
    after.push(to);
    after.sort_unstable();
    let command = RootCommand::BeginReplicas {
        group,
        from: before,
        to: after.clone(),
        replaces: None,
    };
    order(metadata, command).await?;
    Ok(model::ReplicasBegun {
        group: group.get(),
        to: after.iter().map(|id| id.get()).collect(),
    })
}

/// Sets how many replicas groups have at most.
///
/// # Errors
/// Why not.
pub(crate) async fn limit(
    metadata: &dyn MetadataClient,
    how: &model::SetReplicas,
) -> Result<(), Failure> {
    let most = how.most;
    let odd = usize::try_from(most).is_ok_and(|most| most % 2 == 1 && most <= REPLICAS_MAX);
    if most != 0 && !odd {
        let text = "an odd number of replicas up to 7 is needed, or 0".to_owned();
        return Err((StatusCode::BAD_REQUEST, text));
    }
    order(metadata, RootCommand::SetReplicas { most }).await
}

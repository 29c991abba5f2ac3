//! An embedded cluster in one folder: `enfilade up`.

pub(crate) mod births;
pub(crate) mod children;
pub(crate) mod description;
pub(crate) mod layout;
pub(crate) mod lock;
mod one_process;
mod plan;
mod ports;
mod prepare;
mod processes;
pub(crate) mod run_file;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use enfilade_cluster::env::Env;
use prometheus::Registry;

use crate::admin::commands::say;
use crate::admin::routes::Admin;
use crate::admin::server::AdminServer;
use crate::cli::UpArgs;
use crate::credentials::{PASSWORD_VARIABLE, USER_VARIABLE};
use crate::os;
use crate::role::gateway::S3Server;
use crate::signals::StopSignals;
use crate::telemetry;
use crate::up::prepare::{Prepared, prepare};

/// Runs a cluster until it is told to stop.
///
/// # Errors
/// When it cannot start, in words. Whatever happens later is logged, and shown by `status`.
pub(crate) async fn run(args: UpArgs) -> Result<()> {
    let mut signals = StopSignals::listen(false)?;
    let limit = os::raise_file_limit()?;
    let env = Env::real();
    let prepared = prepare(&args, &env).await?;
    tracing::debug!(files = limit, data = %args.data.display(), "the folder is ours");
    for warning in plan::warnings(&prepared.description) {
        tracing::warn!("{warning}");
    }
    let registry = Registry::new();
    telemetry::register(&registry)?;
    let (credentials, token) = (prepared.credentials.clone(), prepared.token.clone());
    let admin = Admin::new(credentials, token, registry);
    let basis = Basis { args, env, admin };
    let mut cluster = tokio::select! {
        started = start(&basis, prepared) => started?,
        _ = signals.stop() => return Ok(()),
    };
    say(&cluster.greeting)?;
    let why = signals.stop().await;
    tracing::info!(why, "stopping");
    signals.lose_patience();
    cluster.stop().await;
    Ok(())
}

/// What every form of a cluster is put together from.
struct Basis {
    args: UpArgs,
    env: Env,
    admin: Arc<Admin>,
}

/// A cluster that runs.
struct Running {
    greeting: String,
    s3: Option<S3Server>,
    admin: Option<AdminServer>,
    body: Body,
    /// Last: the folder is ours until everything has ended.
    _lock: lock::FolderLock,
}

/// What is behind the gateway.
enum Body {
    One(Arc<one_process::OneProcess>),
    Many(Arc<processes::Processes>),
}

async fn start(basis: &Basis, prepared: Prepared) -> Result<Running> {
    let Prepared {
        lock,
        s3,
        admin: admin_socket,
        generated,
        credentials,
        ..
    } = prepared;
    let ground = births::Ground {
        volume_target: basis.args.volume_target.unwrap_or(births::VOLUME_TARGET),
        layout: prepared.layout,
        description: prepared.description,
        token: prepared.token,
        s3: s3.local_addr().context("the address of S3")?,
        admin: admin_socket
            .local_addr()
            .context("the address of the admin API")?,
    };
    let (s3_address, admin_address) = (ground.s3, ground.admin);
    let admin = AdminServer::start(admin_socket, Arc::clone(&basis.admin));
    let (body, gateway, shape) = if ground.description.processes {
        let (many, gateway) = processes::Processes::start(basis, ground, &credentials).await?;
        let shape = many.shape();
        (Body::Many(many), gateway, shape)
    } else {
        let (one, gateway) = one_process::OneProcess::start(basis, ground, &credentials).await?;
        let shape = one.shape();
        (Body::One(one), gateway, shape)
    };
    let s3 = S3Server::start(gateway, s3);
    // Set once; a second time is impossible here.
    let _ = basis.admin.ready.set(());
    let shown = if generated {
        format!(
            "credentials, made now and kept in {}:\n  \
             {USER_VARIABLE}={}\n  {PASSWORD_VARIABLE}={}\n",
            basis.args.data.join("credentials").display(),
            credentials.user,
            credentials.password
        )
    } else {
        String::new()
    };
    let greeting = format!(
        "{shown}enfilade is ready: \
         S3 at http://{s3_address}, admin at http://{admin_address}, {shape}\n"
    );
    Ok(Running {
        greeting,
        s3: Some(s3),
        admin: Some(admin),
        body,
        _lock: lock,
    })
}

impl Running {
    /// Stops in order: no new requests, then nodes, then metadata.
    async fn stop(&mut self) {
        if let Some(s3) = self.s3.take() {
            s3.stop().await;
        }
        match &self.body {
            Body::One(one) => one.stop().await,
            Body::Many(many) => many.stop().await,
        }
        if let Some(admin) = self.admin.take() {
            admin.stop().await;
        }
    }
}

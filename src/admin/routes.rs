//! The paths of the admin API.
//!
//! `/health`, `/health/live`, `/health/ready` and `/metrics` are open to everyone who can connect;
//! the rest needs the root credentials (HTTP Basic).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use bytes::Bytes;
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::error::MetadataError;
use enfilade_cluster::api::root::{LedgerRange, LedgerRow, RootCommand, RootRefusal, RootReply};
use enfilade_placement::{RequestId, VolumeId};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::admin::status::{self, Facts};
use crate::admin::{ActError, Enclosures, drives, extents, groups, model, orders, plans};
use crate::credentials::{RootCredentials, Token};

const BODY_MAX: usize = 64 * 1024;

/// Facts that have not come by then do not come. Leaders change within seconds.
const FACTS_TIME: Duration = Duration::from_secs(10);

/// A page of extents asks for hundreds of records.
const EXTENTS_TIME: Duration = Duration::from_secs(60);

/// Volumes that are asked for at once, and ledger rows that the status looks at.
const PAGE: usize = 1000;

/// Ledger rows that are shown: about 4 MiB.
const LEDGER_MAX: usize = 30_000;

/// Everything that the admin API of a process can reach.
pub(crate) struct Admin {
    /// Who may ask.
    pub(crate) credentials: RootCredentials,
    /// The cluster's token.
    pub(crate) token: Token,
    /// The metrics of this process.
    pub(crate) registry: Registry,
    /// The metadata service, as soon as it can be asked.
    pub(crate) metadata: OnceLock<Arc<dyn MetadataClient>>,
    /// What can be done to enclosures, as soon as it can.
    pub(crate) enclosures: OnceLock<Arc<dyn Enclosures>>,
    /// Makes this process begin a cluster, when it waits for that.
    pub(crate) birth: OnceLock<Arc<dyn Birth>>,
    /// Set when the process does its work.
    pub(crate) ready: OnceLock<()>,
}

/// A process that can begin a cluster (PROTOCOLS 10).
#[async_trait::async_trait]
pub(crate) trait Birth: Send + Sync + 'static {
    /// Begins the cluster; the same again when it was begun so already.
    async fn begin(&self, birth: model::Birth) -> Result<()>;
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    /// An API that so far reaches nothing but metrics.
    pub(crate) fn new(credentials: RootCredentials, token: Token, registry: Registry) -> Arc<Self> {
        Arc::new(Self {
            credentials,
            token,
            registry,
            metadata: OnceLock::new(),
            enclosures: OnceLock::new(),
            birth: OnceLock::new(),
            ready: OnceLock::new(),
        })
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/health" | "/health/ready" => return self.ready(),
            "/health/live" => return text(StatusCode::OK, "live\n"),
            "/metrics" => return self.metrics(),
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/admin/v1/") else {
            return failure(StatusCode::NOT_FOUND, "there is no such path");
        };
        if !self.admits(request.headers().get(AUTHORIZATION)) {
            let mut answer = failure(StatusCode::UNAUTHORIZED, "the root credentials are needed");
            let challenge = HeaderValue::from_static("Basic realm=\"enfilade\"");
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return answer;
        }
        let segments: Vec<&str> = rest.split('/').collect();
        match *request.method() {
            Method::GET => self.get(&segments).await,
            Method::POST => self.post(&segments, request.into_body()).await,
            _ => failure(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and POST are known",
            ),
        }
    }

    fn admits(&self, header: Option<&HeaderValue>) -> bool {
        let decode = || {
            let (scheme, encoded) = header?.to_str().ok()?.split_once(' ')?;
            let basic = scheme.eq_ignore_ascii_case("basic");
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(encoded.trim())
                .ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (user, password) = text.split_once(':')?;
            Some(basic && self.credentials.are(user, password))
        };
        decode().unwrap_or(false)
    }

    fn ready(&self) -> Answer {
        if self.ready.get().is_some() {
            text(StatusCode::OK, "ready\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "starting\n")
        }
    }

    fn metrics(&self) -> Answer {
        let mut bytes = Vec::new();
        let encoder = TextEncoder::new();
        let mut families = self.registry.gather();
        families.extend(enfilade_cluster::metrics::registry().gather());
        if let Err(error) = encoder.encode(&families, &mut bytes) {
            tracing::error!(%error, "metrics cannot be written");
            return failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics cannot be written",
            );
        }
        let mut answer = Response::new(Full::new(Bytes::from(bytes)));
        let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        answer
    }

    async fn get(&self, segments: &[&str]) -> Answer {
        match segments {
            ["status"] => json(StatusCode::OK, &self.status().await),
            ["token"] => json(
                StatusCode::OK,
                &model::TokenText {
                    token: self.token.text(),
                },
            ),
            ["topology"] => self.fact(|facts| facts.view.topology.clone()).await,
            ["enclosures"] => {
                let processes = self.processes();
                self.fact(move |facts| status::build(facts, &processes).enclosures)
                    .await
            }
            ["drives"] => self.fact(drives::list).await,
            ["moves"] => self.fact(plans::moves).await,
            ["settings"] => {
                self.fact(|facts| model::Tuning::from(facts.view.tuning))
                    .await
            }
            ["volumes"] => {
                let show = |facts: &Facts| -> Vec<model::Volume> {
                    facts
                        .volumes
                        .iter()
                        .map(|v| status::volume(&facts.view, v))
                        .collect()
                };
                self.fact(show).await
            }
            ["buckets"] => {
                let names = |facts: &Facts| facts.view.buckets.keys().cloned().collect::<Vec<_>>();
                self.fact(names).await
            }
            ["buckets", name, "usage"] => self.usage(name).await,
            ["groups"] => self.fact(|facts| status::build(facts, &[]).groups).await,
            ["ledger"] => self.ledger().await,
            _ => failure(StatusCode::NOT_FOUND, "there is no such path"),
        }
    }

    async fn post(&self, segments: &[&str], body: Incoming) -> Answer {
        if *segments == ["birth"] {
            return self.begin(body).await;
        }
        if let ["buckets", name] = segments {
            return self.set_bucket(name, body).await;
        }
        if let ["buckets", name, "extents"] = segments {
            return self.extents(name, body).await;
        }
        if let ["groups", rest @ ..] = segments {
            return match self.groups(rest, body).await {
                Ok(answer) => answer,
                Err((status, text)) => failure(status, &text),
            };
        }
        if let ["drives", id, "replace"] = segments {
            return self.replace_drive(id, body).await;
        }
        if *segments == ["settings"] {
            return match self.tune(body).await {
                Ok(answer) => answer,
                Err((status, text)) => failure(status, &text),
            };
        }
        if let Some(asked) = orders::Asked::of(segments) {
            return match self.plan(asked, body).await {
                Ok(answer) => answer,
                Err((status, text)) => failure(status, &text),
            };
        }
        let Some(enclosures) = self.enclosures.get() else {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "the process is starting");
        };
        let acted = match segments {
            ["enclosures"] => match read(body).await {
                Ok(new) => enclosures.add(new).await,
                Err(error) => return failure(StatusCode::BAD_REQUEST, &format!("{error:#}")),
            },
            ["enclosures", id, act @ ("start" | "stop")] => {
                let Ok(id) = id.parse() else {
                    return failure(StatusCode::BAD_REQUEST, "the enclosure's id is no number");
                };
                if *act == "start" {
                    enclosures.start(id).await
                } else {
                    match read(body).await {
                        Ok(how) => enclosures.stop(id, how).await,
                        Err(e) => return failure(StatusCode::BAD_REQUEST, &format!("{e:#}")),
                    }
                }
            }
            _ => return failure(StatusCode::NOT_FOUND, "there is no such path"),
        };
        match acted {
            Ok(acted) => json(StatusCode::OK, &acted),
            Err(error) => failure(
                match error {
                    ActError::NotFound(_) => StatusCode::NOT_FOUND,
                    ActError::Conflict(_) => StatusCode::CONFLICT,
                    ActError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
                    ActError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
                },
                &error.to_string(),
            ),
        }
    }

    async fn set_bucket(&self, name: &str, body: Incoming) -> Answer {
        let wanted: model::SetBucket = match read(body).await {
            Ok(wanted) => wanted,
            Err(error) => return failure(StatusCode::BAD_REQUEST, &format!("{error:#}")),
        };
        let Some(metadata) = self.metadata.get() else {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "the process is starting");
        };
        let command = RootCommand::SetEtag {
            name: name.to_owned(),
            etag: wanted.etag,
        };
        let request = RequestId::new(rand::random());
        let outcome = timeout(FACTS_TIME, metadata.root(request, command)).await;
        match outcome {
            Ok(Ok(Ok(RootReply::Bucket(bucket)))) => {
                let (name, etag) = (bucket.name, bucket.etag);
                json(StatusCode::OK, &model::BucketSet { name, etag })
            }
            Ok(Ok(Ok(_))) => failure(StatusCode::INTERNAL_SERVER_ERROR, "an unexpected answer"),
            Ok(Ok(Err(refusal @ RootRefusal::NotFound(_)))) => {
                failure(StatusCode::NOT_FOUND, &refusal.to_string())
            }
            Ok(Ok(Err(refusal))) => failure(StatusCode::CONFLICT, &refusal.to_string()),
            Ok(Err(error)) => failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            Err(_) => failure(StatusCode::SERVICE_UNAVAILABLE, "no answer in time"),
        }
    }

    /// Changes where replicas of metadata groups are.
    async fn groups(&self, rest: &[&str], body: Incoming) -> Result<Answer, (StatusCode, String)> {
        let wrong = |error: anyhow::Error| (StatusCode::BAD_REQUEST, format!("{error:#}"));
        let away = |error: anyhow::Error| (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}"));
        let metadata = self
            .metadata
            .get()
            .context("the process is starting")
            .map_err(away)?;
        match rest {
            [] => {
                let how: model::SetReplicas = read(body).await.map_err(wrong)?;
                groups::limit(metadata.as_ref(), &how).await?;
                Ok(json(StatusCode::OK, &how))
            }
            [id, "move"] => {
                let id = id.parse().context("the group's id is no number");
                let (id, how) = (id.map_err(wrong)?, read(body).await.map_err(wrong)?);
                let facts = self.facts().await.map_err(away)?;
                let begun = groups::begin_move(metadata.as_ref(), &facts, id, &how).await?;
                Ok(json(StatusCode::OK, &begun))
            }
            _ => Err((StatusCode::NOT_FOUND, "there is no such path".to_owned())),
        }
    }

    async fn replace_drive(&self, id: &str, body: Incoming) -> Answer {
        let Ok(old) = id.parse() else {
            return failure(StatusCode::BAD_REQUEST, "the drive's id is no UUID");
        };
        let Some(metadata) = self.metadata.get() else {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "the process is starting");
        };
        match read::<model::ReplaceDrive>(body).await {
            Err(error) => failure(StatusCode::BAD_REQUEST, &format!("{error:#}")),
            Ok(new) => match drives::replace(metadata.as_ref(), old, new.by).await {
                Ok(()) => json(StatusCode::OK, &serde_json::json!({})),
                Err((status, text)) => failure(status, &text),
            },
        }
    }

    /// All rows, which the status only counts.
    async fn ledger(&self) -> Answer {
        let Some(metadata) = self.metadata.get() else {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "the process is starting");
        };
        match timeout(FACTS_TIME, metadata.ledger(LEDGER_MAX)).await {
            Ok(Ok(rows)) => json(StatusCode::OK, &ledger(&rows)),
            Ok(Err(error)) => failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            Err(_) => failure(StatusCode::SERVICE_UNAVAILABLE, "no answer in time"),
        }
    }

    async fn extents(&self, name: &str, body: Incoming) -> Answer {
        let ask = match read(body).await {
            Ok(ask) => ask,
            Err(error) => return failure(StatusCode::BAD_REQUEST, &format!("{error:#}")),
        };
        let Some(metadata) = self.metadata.get() else {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "the process is starting");
        };
        let page = async {
            let view = metadata.watch(0, Duration::ZERO).await?;
            match view.buckets.get(name) {
                None => Ok(None),
                Some(bucket) => extents::page(metadata.as_ref(), bucket.id, ask)
                    .await
                    .map(Some),
            }
        };
        match timeout(EXTENTS_TIME, page).await {
            Ok(Ok(Some(page))) => json(StatusCode::OK, &page),
            Ok(Ok(None)) => failure(StatusCode::NOT_FOUND, "there is no such bucket"),
            Ok(Err(error)) => {
                let error: MetadataError = error;
                failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
            }
            Err(_) => failure(StatusCode::SERVICE_UNAVAILABLE, "no answer in time"),
        }
    }

    async fn usage(&self, name: &str) -> Answer {
        let Some(metadata) = self.metadata.get() else {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "the process is starting");
        };
        let ask = async {
            let view = metadata.watch(0, Duration::ZERO).await?;
            let Some(bucket) = view.buckets.get(name) else {
                return Ok(None);
            };
            metadata.usage(bucket.id).await.map(Some)
        };
        match timeout(FACTS_TIME, ask).await {
            Ok(Ok(Some(usage))) => json(
                StatusCode::OK,
                &model::BucketUsage {
                    name: name.to_owned(),
                    objects: usage.objects,
                    bytes: usage.bytes,
                    older_versions: usage.older,
                    older_bytes: usage.older_bytes,
                    delete_markers: usage.markers,
                    uploads: usage.uploads,
                    parts: usage.parts,
                    part_bytes: usage.part_bytes,
                },
            ),
            Ok(Ok(None)) => failure(StatusCode::NOT_FOUND, "there is no such bucket"),
            Ok(Err(error)) => {
                let error: MetadataError = error;
                failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
            }
            Err(_) => failure(StatusCode::SERVICE_UNAVAILABLE, "no answer in time"),
        }
    }

    async fn plan(
        &self,
        asked: orders::Asked,
        body: Incoming,
    ) -> Result<Answer, (StatusCode, String)> {
        let wrong = |error: anyhow::Error| (StatusCode::BAD_REQUEST, format!("{error:#}"));
        let away = |error: anyhow::Error| (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}"));
        let metadata = self
            .metadata
            .get()
            .context("the process is starting")
            .map_err(away)?;
        let how: model::MoveAsk = read(body).await.map_err(wrong)?;
        let facts = self.facts().await.map_err(away)?;
        let answer = orders::answer(metadata.as_ref(), &facts, asked, how).await?;
        if let (Some(id), Some(enclosures)) = (asked.removes(), self.enclosures.get()) {
            let forgotten = enclosures.forget(id.get()).await;
            forgotten.map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
        }
        Ok(json(StatusCode::OK, &answer))
    }

    async fn tune(&self, body: Incoming) -> Result<Answer, (StatusCode, String)> {
        let wrong = |error: anyhow::Error| (StatusCode::BAD_REQUEST, format!("{error:#}"));
        let away = |error: anyhow::Error| (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}"));
        let metadata = self.metadata.get().context("the process is starting");
        let metadata = metadata.map_err(away)?;
        let wanted: model::Tuning = read(body).await.map_err(wrong)?;
        let facts = self.facts().await.map_err(away)?;
        let set = orders::tune(metadata.as_ref(), &facts, &wanted).await?;
        Ok(json(StatusCode::OK, &set))
    }

    async fn begin(&self, body: Incoming) -> Answer {
        let Some(birth) = self.birth.get() else {
            return failure(StatusCode::CONFLICT, "this process cannot begin a cluster");
        };
        match read(body).await {
            Err(error) => failure(StatusCode::BAD_REQUEST, &format!("{error:#}")),
            Ok(wanted) => match birth.begin(wanted).await {
                Ok(()) => json(StatusCode::OK, &serde_json::json!({})),
                Err(error) => failure(StatusCode::CONFLICT, &format!("{error:#}")),
            },
        }
    }

    fn processes(&self) -> Vec<model::Process> {
        self.enclosures
            .get()
            .map(|enclosures| enclosures.processes())
            .unwrap_or_default()
    }

    /// How the cluster is, as far as can be found out.
    pub(crate) async fn status(&self) -> model::Status {
        match self.facts().await {
            Ok(facts) => status::build(&facts, &self.processes()),
            Err(error) => status::unknown(&format!("{error:#}"), &self.processes()),
        }
    }

    async fn fact<T: Serialize>(&self, show: impl FnOnce(&Facts) -> T) -> Answer {
        match self.facts().await {
            Ok(facts) => json(StatusCode::OK, &show(&facts)),
            Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, &format!("{error:#}")),
        }
    }

    async fn facts(&self) -> Result<Facts> {
        let metadata = self.metadata.get().context("the process is starting")?;
        let gathered = timeout(FACTS_TIME, gather(metadata.as_ref())).await;
        gathered.context("no answer in time")?
    }
}

async fn gather(metadata: &dyn MetadataClient) -> Result<Facts> {
    let groups = metadata.groups().await?;
    let ledger = metadata.ledger(PAGE).await?;
    let reports = metadata.drive_reports().await?;
    let mut volumes = Vec::new();
    let mut after: Option<VolumeId> = None;
    loop {
        let page = metadata.all_volumes(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        volumes.extend(page);
    }
    // Last, so that every drive that a volume names is known.
    let view = metadata.watch(0, Duration::ZERO).await?;
    Ok(Facts {
        view,
        volumes,
        ledger,
        groups,
        reports,
    })
}

fn ledger(rows: &[LedgerRow]) -> Vec<model::Fault> {
    let rows = rows.iter();
    rows.map(|row| {
        let (blob, stripes) = match &row.what {
            LedgerRange::Whole => (None, None),
            LedgerRange::Stripes { blob, first, last } => {
                (Some(blob.to_string()), Some((*first, *last)))
            }
        };
        model::Fault {
            volume: row.volume.get(),
            member: row.member,
            blob,
            stripes,
        }
    })
    .collect()
}

/// A body as JSON; an empty one stands for all defaults.
async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T> {
    let body = Limited::new(body, BODY_MAX).collect().await;
    let bytes = body.map_err(|error| anyhow::anyhow!("the body cannot be read: {error}"))?;
    let bytes = bytes.to_bytes();
    let bytes = if bytes.is_empty() {
        &b"{}"[..]
    } else {
        &bytes[..]
    };
    serde_json::from_slice(bytes).context("the body is not what was expected")
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    answer
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let bytes = match serde_json::to_vec(value) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "an answer cannot be encoded");
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the answer cannot be encoded\n",
            );
        }
    };
    let mut answer = Response::new(Full::new(Bytes::from(bytes)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn failure(status: StatusCode, error: &str) -> Answer {
    json(
        status,
        &model::Failure {
            error: error.to_owned(),
        },
    )
}

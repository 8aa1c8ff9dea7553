//! The services behind the gateway, and the routes to them: compiled from their descriptors at the start, and again whenever those change.
//!
//! New routes are compiled aside and swapped in. Requests in flight finish on the old ones, and descriptors that no routes can be made of change
//! nothing.

mod config;
mod descriptors;
mod doors;
mod reflection;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use bytes::Bytes;
use mesh::client::{Channel, Options, Security, Target};
use mesh::config::TargetConfig;
use mesh::health::Readiness;
use mesh::run::Context;
use mesh::tls::{TlsClient, TlsClientFiles};
use proto::policy::{Method as Policy, TABLE};
use transcoder::{Builder, Transcoder};

use self::descriptors::Version;
use self::doors::{Doors, Terms};
use self::reflection::Bounds;
use crate::config::Config;
use crate::gate::{self, PolicyGate};
use crate::openapi;

pub use self::config::{Access, UpstreamConfig};
pub(crate) use self::config::{flags, set_by_flags};

/// How often descriptor sets are looked at.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// How often a service is asked for its descriptors, when its connections stay.
const REFLECTION_PERIOD: Duration = Duration::from_secs(60);

/// The pause after a first question that got no answer, doubled up to the longest.
const REFLECTION_PAUSE: Duration = Duration::from_millis(200);
const REFLECTION_PAUSE_MAX: Duration = Duration::from_secs(10);

/// What readiness waits for until every upstream has been asked.
const UNKNOWN: &str = "the descriptors of an upstream are not known yet";

/// Services that are every server's, and nobody's to call from outside.
const ASIDE: [&str; 2] = ["grpc.reflection.", "grpc.health."];

/// Connections of the gateway to each address of Jetway's own services.
const CONNECTIONS: usize = 2;

/// Where one upstream's descriptors come from.
enum Descriptors {
    /// The contract that the gateway was built with.
    Contract,
    File(PathBuf),
    Reflection,
}

struct Upstream {
    /// As operators know it: `bookings`, `upstream.0`.
    name: String,
    channel: Channel,
    /// Empty: all of the set.
    services: Vec<String>,
    access: Access,
    terms: Terms,
    descriptors: Descriptors,
}

/// What the gateway serves at one time.
pub(crate) struct Serving {
    pub(crate) transcoder: Transcoder,
}

/// Every upstream, and the routes to them as they are now.
pub(crate) struct Upstreams {
    behind: Vec<Upstream>,
    /// What is known of each; `None` before the first answer. Held while routes are compiled, so that one change follows the other.
    sets: Mutex<Vec<Option<Bytes>>>,
    serving: ArcSwap<Serving>,
    policy: Arc<PolicyGate>,
    /// Fields that hold their default are printed, too.
    print_defaults: bool,
}

/// The services of the contract that the world may reach, of one workload: not those that only other workloads may call.
fn own_services(workload: &str) -> Vec<String> {
    let package = format!("jetway.{workload}.v1");
    let services = proto::descriptor_pool().services();
    services
        .filter(|service| service.package_name() == package)
        .map(|service| service.full_name().to_owned())
        .filter(|service| {
            TABLE.iter().any(|method| method.service() == service && method.access.is_for_users())
        })
        .collect()
}

impl Upstreams {
    /// Reads the descriptors that are in files, compiles the routes, and starts to follow what changes.
    ///
    /// # Errors
    ///
    /// A file cannot be read or used, a certificate neither, or a service is neither open nor has it a policy.
    pub(crate) fn start(context: &Context<Config>, policy: PolicyGate) -> anyhow::Result<Arc<Self>> {
        let config = &context.config;
        let mut upstreams = Vec::new();
        if config.fronts_platform() {
            let own = [
                ("identity", &config.identity),
                ("bookings", &config.bookings),
                ("payments", &config.payments),
            ];
            for (workload, target) in own {
                upstreams.push(own_upstream(context, workload, target)?);
            }
        }
        for (index, upstream) in config.upstream.iter().enumerate() {
            let name = format!("upstream.{index}");
            let made = any_upstream(context, &name, upstream);
            upstreams.push(made.with_context(|| format!("`{name}`"))?);
        }
        let mut sets = Vec::new();
        for upstream in &upstreams {
            sets.push(match &upstream.descriptors {
                Descriptors::Contract => Some(Bytes::from_static(proto::DESCRIPTOR_SET)),
                Descriptors::File(path) => {
                    Some(descriptors::read(path).with_context(|| format!("`{}`", upstream.name))?)
                }
                Descriptors::Reflection => None,
            });
        }
        let policy = Arc::new(policy);
        let print_defaults = config.prints_defaults();
        let serving = ArcSwap::from_pointee(compile(&upstreams, &sets, &policy, print_defaults)?);
        let all =
            Arc::new(Self { behind: upstreams, sets: Mutex::new(sets), serving, policy, print_defaults });
        all.tell_readiness(&context.readiness);
        all.follow(context);
        Ok(all)
    }

    /// What is served now.
    pub(crate) fn serving(&self) -> arc_swap::Guard<Arc<Serving>> {
        self.serving.load()
    }

    fn tell_readiness(&self, readiness: &Readiness) {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        readiness.set(UNKNOWN, sets.iter().all(Option::is_some));
    }

    fn follow(self: &Arc<Self>, context: &Context<Config>) {
        for (index, upstream) in self.behind.iter().enumerate() {
            let (all, stop) = (Arc::clone(self), context.tasks.stop_token());
            match &upstream.descriptors {
                Descriptors::Contract => {}
                Descriptors::File(path) => {
                    let path = path.clone();
                    context.tasks.spawn(async move {
                        let _stopped = stop.run_until_cancelled(all.follow_file(index, path)).await;
                    });
                }
                Descriptors::Reflection => {
                    let readiness = context.readiness.clone();
                    context.tasks.spawn(async move {
                        let _stopped =
                            stop.run_until_cancelled(all.follow_reflection(index, readiness)).await;
                    });
                }
            }
        }
    }

    async fn follow_file(self: Arc<Self>, index: usize, path: PathBuf) {
        let mut ticks = tokio::time::interval(WATCH_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first look finds what was read at the start, or what has come since.
        let mut seen = None;
        loop {
            ticks.tick().await;
            let version = Version::of(&path);
            if version == seen {
                continue;
            }
            seen = version;
            let (all, path) = (Arc::clone(&self), path.clone());
            let applied = tokio::task::spawn_blocking(move || all.apply(index, descriptors::read(&path)?));
            self.report(index, applied.await.unwrap_or_else(|error| Err(error.into())));
        }
    }

    async fn follow_reflection(self: Arc<Self>, index: usize, readiness: Readiness) {
        let upstream = &self.behind[index];
        let mut pause = REFLECTION_PAUSE;
        loop {
            let fetched = reflection::fetch(&upstream.channel, &upstream.services, Bounds::default()).await;
            let made = upstream.channel.connections_made();
            let all = Arc::clone(&self);
            let applied = match fetched {
                Ok(set) => tokio::task::spawn_blocking(move || all.apply(index, set))
                    .await
                    .unwrap_or_else(|error| Err(error.into())),
                Err(error) => Err(error),
            };
            let fine = applied.is_ok();
            self.report(index, applied);
            self.tell_readiness(&readiness);
            if fine {
                pause = REFLECTION_PAUSE;
                // A connection that is made again may lead to another version of the service.
                let since = tokio::time::Instant::now();
                while since.elapsed() < REFLECTION_PERIOD && upstream.channel.connections_made() == made {
                    tokio::time::sleep(WATCH_PERIOD).await;
                }
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(REFLECTION_PAUSE_MAX);
            }
        }
    }

    /// Uses new descriptors of one upstream. False when they are the old ones.
    fn apply(&self, index: usize, set: Bytes) -> anyhow::Result<bool> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets[index].as_ref() == Some(&set) {
            return Ok(false);
        }
        let mut new = sets.clone();
        new[index] = Some(set);
        let serving = compile(&self.behind, &new, &self.policy, self.print_defaults)?;
        *sets = new;
        self.serving.store(Arc::new(serving));
        Ok(true)
    }

    fn report(&self, index: usize, applied: anyhow::Result<bool>) {
        let upstream = self.behind[index].name.as_str();
        let result = match applied {
            Ok(false) => return,
            Ok(true) => {
                tracing::info!(upstream, "descriptors loaded");
                "loaded"
            }
            Err(error) => {
                tracing::warn!(
                    upstream,
                    error = format!("{error:#}"),
                    "descriptors refused, the old ones stay"
                );
                "refused"
            }
        };
        metrics::counter!("edge_descriptor_reloads_total", "result" => result).increment(1);
    }
}

fn own_upstream(
    context: &Context<Config>,
    workload: &str,
    target: &TargetConfig,
) -> anyhow::Result<Upstream> {
    let options = Options { connections: CONNECTIONS, deadline_is_callers: true, of_contract: true };
    Ok(Upstream {
        name: workload.to_owned(),
        channel: context.channel_with(workload, target, options)?,
        services: own_services(workload),
        access: Access::Policy,
        terms: Terms { timeout: None, request_bytes_max: 0, forwards_authorization: false },
        descriptors: Descriptors::Contract,
    })
}

fn any_upstream(context: &Context<Config>, name: &str, config: &UpstreamConfig) -> anyhow::Result<Upstream> {
    let place = config.place().map_err(anyhow::Error::msg).context("`address`")?;
    let options = Options {
        connections: config.connections,
        deadline_is_callers: true,
        of_contract: config.access == Access::Policy,
    };
    let channel = match (&config.workload, place.tls) {
        (Some(workload), _) => {
            let identity = context.identity.as_ref().context("there is no workload certificate")?;
            let target = Target::parse(workload, place.authorities.iter().map(http::uri::Authority::as_str))
                .context("`workload`")?;
            Channel::with_options(&target, identity, options)
        }
        (None, false) => Channel::to_any("upstream", place.authorities, Security::Clear, options),
        (None, true) => {
            let files = TlsClientFiles {
                roots: config.roots.clone(),
                certificate: config.certificate.clone().zip(config.key.clone()),
            };
            let client = TlsClient::load(files)?;
            let host = place.authorities.first().map(|first| first.host().trim_matches(['[', ']']));
            let server_name = config.server_name.as_deref().or(host).unwrap_or_default().to_owned();
            let server_name = server_name.try_into().context("`server_name` is no name of a server")?;
            Channel::to_any("upstream", place.authorities, Security::Tls { client, server_name }, options)
        }
    };
    context.admin.show(&channel);
    Ok(Upstream {
        name: name.to_owned(),
        channel,
        services: config.services.clone(),
        access: config.access,
        terms: Terms {
            timeout: (config.timeout_ms > 0).then(|| Duration::from_millis(config.timeout_ms)),
            request_bytes_max: config.request_bytes_max,
            forwards_authorization: config
                .forward_authorization
                .unwrap_or_else(|| !context.config.checks_tokens()),
        },
        descriptors: match &config.descriptor_set {
            Some(path) => Descriptors::File(path.clone()),
            None => Descriptors::Reflection,
        },
    })
}

/// Compiles the routes to every upstream whose descriptors are known.
fn compile(
    upstreams: &[Upstream],
    sets: &[Option<Bytes>],
    policy: &Arc<PolicyGate>,
    print_defaults: bool,
) -> anyhow::Result<Serving> {
    let mut routed: HashMap<String, &str> = HashMap::new();
    let mut open: HashMap<String, Terms> = HashMap::new();
    let set = descriptors::merged(sets.iter().flatten())?;
    // Metadata of clients are let through to services that judge for themselves, and never to one of ours.
    let all_open = upstreams.iter().all(|upstream| upstream.access == Access::Open);
    let mut builder: Builder = Transcoder::builder(&set)
        .error_domain(gate::DOMAIN)
        .always_print_primitive_fields(print_defaults)
        .all_metadata(all_open)
        .openapi(openapi::settings(all_open));
    for (upstream, set) in upstreams.iter().zip(sets) {
        let Some(set) = set else { continue };
        for (service, methods) in services_of(upstream, set)? {
            if let Some(other) = routed.insert(service.clone(), &upstream.name) {
                bail!("`{other}` and `{}` both serve `{service}`", upstream.name);
            }
            check_access(upstream, &methods)?;
            if upstream.access == Access::Open {
                open.insert(service.clone(), upstream.terms);
            }
            builder = builder.upstream(service, upstream.channel.clone());
        }
    }
    let transcoder =
        builder.gate(Doors::new(Arc::clone(policy), open)).build().context("compile the routes")?;
    Ok(Serving { transcoder })
}

/// The services of one upstream that are to be fronted, each with the paths of its methods.
fn services_of(upstream: &Upstream, set: &Bytes) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let name = &upstream.name;
    let pool = prost_reflect::DescriptorPool::decode(set.clone())
        .with_context(|| format!("`{name}`: the descriptor set is malformed or incomplete"))?;
    let mut found = Vec::new();
    for service in pool.services() {
        let full = service.full_name();
        let wanted = if upstream.services.is_empty() {
            !ASIDE.iter().any(|aside| full.starts_with(aside))
        } else {
            upstream.services.iter().any(|wanted| wanted == full)
        };
        if wanted {
            let paths = service.methods().map(|method| format!("/{full}/{}", method.name()));
            found.push((full.to_owned(), paths.collect()));
        }
    }
    if let Some(missing) =
        upstream.services.iter().find(|wanted| !found.iter().any(|(full, _)| full == *wanted))
    {
        bail!("`{name}.services`: there is no service `{missing}` in the descriptor set");
    }
    if found.is_empty() {
        bail!("`{name}`: there is no service in the descriptor set");
    }
    Ok(found)
}

/// A method without a policy is nobody's to call, unless the upstream is said to be open; and one with a policy is never open.
fn check_access(upstream: &Upstream, methods: &[String]) -> anyhow::Result<()> {
    let name = &upstream.name;
    match upstream.access {
        Access::Policy => match methods.iter().find(|path| Policy::of(path).is_none()) {
            Some(path) => bail!(
                "`{name}.access`: the method `{path}` has no policy; say `access = \"open\"` for a service that checks its callers itself"
            ),
            None => Ok(()),
        },
        Access::Open => match methods.iter().find(|path| Policy::of(path).is_some()) {
            Some(path) => bail!("`{name}.access` cannot be open: the method `{path}` has a policy"),
            None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::own_services;

    #[test]
    fn services_that_only_workloads_may_call_have_no_route() {
        let routed = own_services("identity");

        assert!(routed.contains(&"jetway.identity.v1.AccountService".to_owned()));
        assert!(!routed.contains(&"jetway.identity.v1.TokenStatusService".to_owned()), "{routed:?}");
    }
}

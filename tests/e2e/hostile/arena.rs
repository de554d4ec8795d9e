//! Where it happens: two apps under load, each with a controller of its own, and one round for each
//! fault.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serin::api::RolloutStatus;
use serin_lab::{Lab, Metrics, Piece, Proxy, Report, Rule, Sick};
use tokio::time::timeout;

use super::{
    checker::{self, Facts},
    copies::{Copied, Manner},
    history::Recorder,
    table::Row,
};
use crate::world::{LIMIT, Result, Setup, Strategy, World, hash, phase, stage};

/// How long a fault is on, at least.
const FAULT: Duration = Duration::from_secs(10);
/// Whoever types gives up a request that takes longer, and sends it again.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long after a fault of the data plane a failure may be owed to it.
const AFTERMATH: Duration = Duration::from_secs(20);

const CANARY: &str = "[{setWeight: 20}, {pause: {duration: 2s}}, {setWeight: 50}, \
    {analysis: {templates: [{templateName: errors}], args: [{name: service, value: app}]}}, \
    {setWeight: 80}, {pause: {duration: 2s}}]";
const BLUE_GREEN: &str = "{autoPromotionDelay: 4s, \
    postPromotionAnalysis: {templates: [{templateName: errors}], args: [{name: service, value: app}]}}";

/// What goes wrong.
pub enum Trouble {
    /// Between Serin and the API server, by dice.
    Weather(Vec<Rule>),
    /// Nothing goes through between Serin and the API server.
    CutOff(Duration),
    /// In the metrics.
    Sick(Sick),
    /// No Prometheus at all.
    NoPrometheus,
    /// A part of the cluster is stopped, and goes on.
    Frozen(Piece),
    /// A part of the cluster is killed, and started again.
    Crashed(Piece),
    /// Serin is killed, again and again.
    Killed,
    /// The leader stops until another has taken over, then goes on: for a moment there are two.
    TwoLeaders,
    /// Serin is run in a poor place.
    Poor(Manner),
}

impl Trouble {
    /// Whether it hits the data plane itself, so that requests may fail by it.
    fn hits_the_data_plane(&self) -> bool {
        matches!(self, Self::Frozen(Piece::Gateway))
    }

    /// Whether Serin may end by it: it loses its lease, its memory or its life.
    fn ends_serin(&self) -> bool {
        match self {
            Self::Weather(rules) => rules.iter().any(|r| r.resources.contains(&"leases")),
            Self::CutOff(_) | Self::Killed | Self::TwoLeaders => true,
            Self::Frozen(piece) | Self::Crashed(piece) => *piece != Piece::Gateway,
            Self::Poor(manner) => matches!(manner, Manner::Narrow(_)),
            Self::Sick(_) | Self::NoPrometheus => false,
        }
    }
}

/// One of the two apps.
struct Side {
    world: World,
    copy: Option<Copied>,
    second: Option<Copied>,
    recorder: Recorder,
    facts: Facts,
    judged: usize,
}

/// Both of them.
pub struct Arena {
    lab: Arc<Lab>,
    proxy: Proxy,
    metrics: Metrics,
    sides: Vec<Side>,
    round: u64,
    seed: u64,
    /// Ends of copies that are no more.
    gone: u32,
}

impl Arena {
    /// Everything up, v1 healthy on both sides, users sending requests.
    pub async fn new(lab: Arc<Lab>, name: &str) -> Result<Self> {
        let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
        let seed = seed.unwrap_or(1);
        println!("{name}: seed {seed}");
        let proxy = lab.hostile_proxy(seed).await?;
        let metrics = lab.hostile_metrics().await?;
        let usual = Setup {
            deadline: 180,
            rate: 30.0,
            steps: CANARY,
            ..Setup::default()
        };
        let green = Setup {
            routed: false,
            strategy: Strategy::BlueGreen(BLUE_GREEN),
            ..usual.clone()
        };
        let mut sides = vec![];
        for (kind, setup) in [("canary", usual), ("green", green)] {
            let prefix = format!("{name}-{kind}");
            let mut world = World::bare(lab.clone(), &prefix, setup).await?;
            world.kubeconfig = lab
                .kubeconfig_through(&proxy, &world.namespace, "serin")
                .await?;
            world.provider = metrics.url().to_owned();
            let recorder = Recorder::start(&world);
            let copy = Copied::start(&world, "a", Manner::Usual)?;
            world.apply_app("v1", 100, 0).await?;
            let [stable, canary] = if kind == "canary" {
                ["app-stable", "app-canary"]
            } else {
                ["app-active", "app-preview"]
            };
            sides.push(Side {
                facts: Facts {
                    replicas: u64::from(world.setup.replicas),
                    stable,
                    canary,
                },
                copy: Some(copy),
                second: None,
                judged: 0,
                world,
                recorder,
            });
        }
        for side in &mut sides {
            side.until("v1 to be healthy", |s| phase(s) == "Healthy")
                .await?;
            side.world.first_answer().await?;
            side.world.start_load()?;
        }
        Ok(Self {
            lab,
            proxy,
            metrics,
            sides,
            round: 0,
            seed,
            gone: 0,
        })
    }

    /// Both apps get a new version, which meets with a fault; one of them is aborted meanwhile.
    pub async fn round(&mut self, name: &str, trouble: &Trouble) -> Result<Row> {
        let began = Instant::now();
        self.round += 1;
        let version = format!("v{}", self.round + 1);
        let aborted = usize::from((self.round + self.seed).is_multiple_of(2));
        let early = (self.round / 2 + self.seed).is_multiple_of(2);
        let before = self.reports();
        let ends = self.ends();
        for side in &self.sides {
            side.deploy(&version).await?;
        }
        for side in &self.sides {
            side.until("the attempt to be in flight", |s| {
                let ours = s.attempt.as_ref().map(|a| &a.hash) == s.current_revision.as_ref();
                ours && (stage(s) == "Stepping" || (early && stage(s) == "Starting"))
            })
            .await?;
        }
        let at = self.reports();
        let struck = self.begin(trouble).await?;
        tokio::time::sleep(FAULT / 2).await;
        let abort = self.sides[aborted].abort();
        let fault = async {
            let struck = self.strikes(trouble, struck).await;
            self.end(trouble).await?;
            struck
        };
        // While the cluster stands still nobody can abort: the fault ends whatever becomes of that.
        let (abort, struck) = futures::join!(abort, fault);
        abort?;
        let struck = struck?;
        let mut row = Row {
            fault: name.to_owned(),
            struck,
            ..Row::default()
        };
        if trouble.hits_the_data_plane() {
            tokio::time::sleep(AFTERMATH).await;
            row.explained = failed(&at, &self.reports());
        }
        for n in 0..2 {
            let end = self.sides[n].done().await?;
            row.end[n] = end_of(&end);
            self.sides[n].only(&end, &version, &mut row.wrong).await?;
        }
        let after = self.reports();
        row.sent = after
            .iter()
            .zip(&before)
            .map(|(a, b)| a.sent - b.sent)
            .sum();
        row.unexplained = failed(&before, &after).saturating_sub(row.explained);
        if row.unexplained > 0 {
            let samples = after
                .iter()
                .flat_map(|r| r.unexplained_samples.iter().rev().take(3));
            row.wrong
                .extend(samples.map(|s| format!("a request failed: {s:?}")));
        }
        row.ends = self.ends() - ends;
        if row.ends > 0 && !trouble.ends_serin() {
            row.wrong.push(format!("Serin ended {} times", row.ends));
        }
        for side in &mut self.sides {
            row.wrong.extend(side.judge());
        }
        row.took = began.elapsed().as_secs();
        Ok(row)
    }

    fn reports(&self) -> Vec<Report> {
        let sides = self.sides.iter();
        sides.map(|s| s.world.load().snapshot()).collect()
    }

    fn ends(&self) -> u32 {
        let copies = self.sides.iter().flat_map(|s| [&s.copy, &s.second]);
        self.gone + copies.flatten().map(Copied::ends).sum::<u32>()
    }

    /// The fault is on; gives the count from which its strikes are counted.
    async fn begin(&mut self, trouble: &Trouble) -> Result<u64> {
        let count = self.count(trouble);
        match trouble {
            Trouble::Weather(rules) => self.proxy.set(rules.clone()),
            Trouble::CutOff(_) => self.proxy.cut_off(true),
            Trouble::Sick(sick) => self.metrics.set(Some(*sick)),
            Trouble::NoPrometheus => self.lab.stop_prometheus().await,
            Trouble::Frozen(piece) => self.lab.freeze(*piece, true).await?,
            Trouble::Crashed(piece) => self.lab.crash(*piece).await?,
            Trouble::Killed => {}
            Trouble::TwoLeaders => {
                for side in &mut self.sides {
                    side.second = Some(Copied::start(&side.world, "b", Manner::Usual)?);
                }
            }
            Trouble::Poor(manner) => {
                for side in &mut self.sides {
                    let before = side.copy.take().ok_or("a copy runs")?;
                    let manner = match manner {
                        // As much as it took so far, and a little more.
                        Manner::Narrow(more) => Manner::Narrow(before.peak()? + more),
                        other => *other,
                    };
                    self.gone += before.ends();
                    drop(before);
                    side.copy = Some(Copied::start(&side.world, "poor", manner)?);
                }
            }
        }
        Ok(count)
    }

    fn count(&self, trouble: &Trouble) -> u64 {
        match trouble {
            Trouble::Weather(_) | Trouble::CutOff(_) => self.proxy.struck().values().sum(),
            Trouble::Sick(_) => self.metrics.struck(),
            _ => 0,
        }
    }

    /// Awaits that the fault has had its time and struck; gives how often.
    async fn strikes(&self, trouble: &Trouble, from: u64) -> Result<u64> {
        tokio::time::sleep(FAULT / 2).await;
        match trouble {
            Trouble::Weather(_) | Trouble::Sick(_) => {
                // One error more than the metric bears in a row: then it pauses, and asks no more.
                let least = if matches!(trouble, Trouble::Sick(_)) {
                    4
                } else {
                    1
                };
                let more = || async {
                    let now = self.count(trouble);
                    (now >= from + least).then_some(now - from)
                };
                Ok(self.lab.until("the fault to strike", LIMIT, more).await?)
            }
            Trouble::CutOff(time) => {
                tokio::time::sleep(time.saturating_sub(FAULT)).await;
                Ok(self.count(trouble) - from)
            }
            Trouble::Killed => {
                let mut kills = 0;
                for _ in 0..3 {
                    for side in &self.sides {
                        let Some(copy) = &side.copy else { continue };
                        copy.signal("KILL").await?;
                        kills += 1;
                    }
                    tokio::time::sleep(Duration::from_secs(4)).await;
                }
                Ok(kills)
            }
            Trouble::TwoLeaders => {
                for side in &self.sides {
                    side.two_leaders().await?;
                }
                Ok(2)
            }
            _ => Ok(1),
        }
    }

    async fn end(&self, trouble: &Trouble) -> Result {
        match trouble {
            Trouble::Weather(_) => self.proxy.set(vec![]),
            Trouble::CutOff(_) => self.proxy.cut_off(false),
            Trouble::Sick(_) => self.metrics.set(None),
            Trouble::NoPrometheus => self.lab.start_prometheus().await?,
            Trouble::Frozen(piece) => self.lab.freeze(*piece, false).await?,
            Trouble::Crashed(piece) => self.lab.revive(*piece).await?,
            Trouble::Killed | Trouble::TwoLeaders | Trouble::Poor(_) => {}
        }
        Ok(())
    }

    /// After all rounds: what the judge must not be blind to, and whether there was something to
    /// judge.
    pub fn last_look(&self) -> Vec<String> {
        let (mut wrong, mut sum) = (vec![], 0);
        for side in &self.sides {
            let history = side.recorder.history();
            let name = &side.world.namespace;
            let blind = checker::blind_to(&history, side.facts);
            wrong.extend(
                blind
                    .iter()
                    .map(|law| format!("{name}: the judge is blind to {law}")),
            );
            let all = checker::judge(&history, side.facts);
            let (judged, late, gaps) = (all.judged, all.late, history.gaps.len());
            println!("{name}: {judged} judged, {late} landed late, {gaps} gaps");
            sum += judged;
        }
        if sum < self.round * 4 {
            wrong.push(format!("only {sum} writes were judged"));
        }
        wrong
    }
}

/// Failed requests between two looks.
fn failed(before: &[Report], after: &[Report]) -> u64 {
    let pairs = after.iter().zip(before);
    pairs.map(|(a, b)| a.unexplained - b.unexplained).sum()
}

/// How a rollout ended, in a word or two.
fn end_of(status: &RolloutStatus) -> String {
    let attempt = status.attempt.as_ref();
    let outcome = attempt.and_then(|a| a.outcome.as_deref()).unwrap_or("?");
    format!("{} ({outcome})", phase(status))
}

impl Side {
    async fn until(
        &self,
        what: &str,
        holds: impl Fn(&RolloutStatus) -> bool,
    ) -> Result<RolloutStatus> {
        self.recorder.until(&self.world, what, 2, holds).await
    }

    /// The template.
    async fn deploy(&self, version: &str) -> Result {
        self.taken("the template", || self.world.deploy(version))
            .await
    }

    async fn abort(&self) -> Result {
        let status = self.until("an attempt", |s| !hash(s).is_empty()).await?;
        self.command("abort", &format!("{}/1", hash(&status))).await
    }

    /// A command.
    async fn command(&self, name: &str, token: &str) -> Result {
        let pairs = [(name, token)];
        self.taken("the command", || self.world.annotate(&pairs))
            .await
    }

    /// Somebody asks until the API server takes it.
    async fn taken<F: Future<Output = Result>>(&self, what: &str, ask: impl Fn() -> F) -> Result {
        let trying = || async { timeout(PATIENCE, ask()).await.ok()?.ok() };
        let what = format!("{what} to be taken");
        Ok(self.world.lab.until(&what, LIMIT, trying).await?)
    }

    /// Awaits that nothing is in flight any more. Where an analysis could not say, a person lets it
    /// measure anew.
    async fn done(&self) -> Result<RolloutStatus> {
        for again in 1..20 {
            let status = self
                .until("the end of the attempt", |s| {
                    let done = stage(s) == "Done"
                        && (phase(s) == "Healthy" || phase(s) == "Degraded")
                        && s.attempt.as_ref().map(|a| &a.hash) == s.current_revision.as_ref()
                        && s.draining.is_empty()
                        && s.tracks.len() == 1;
                    done || s.pause.is_some()
                })
                .await?;
            if status.pause.is_none() {
                return Ok(status);
            }
            let token = format!("{}/{again}", hash(&status));
            self.command("resume", &token).await?;
            let since = status.pause;
            self.until("to go on", |s| s.pause != since).await?;
        }
        Err("it pauses again and again".into())
    }

    /// Users are served by what is stable, and by nothing else.
    async fn only(&self, end: &RolloutStatus, new: &str, wrong: &mut Vec<String>) -> Result {
        let promoted = end.stable_revision == end.current_revision;
        let load = self.world.load();
        let since = load.now();
        let answers = || async {
            let window = load.window(since, true);
            (window.answers() >= 10).then_some(window)
        };
        let lab = &self.world.lab;
        let window = lab.until("ten answers", LIMIT, answers).await?;
        for version in window.by_version.keys() {
            if (version == new) != promoted {
                let namespace = &self.world.namespace;
                wrong.push(format!("{namespace}: still served by {version}"));
            }
        }
        Ok(())
    }

    /// What the newest part of the history broke.
    fn judge(&mut self) -> Vec<String> {
        let broken = checker::judge(&self.recorder.history(), self.facts).broken;
        let new = broken.iter().skip(self.judged);
        let name = &self.world.namespace;
        let new: Vec<String> = new.map(|b| format!("{name}: {b}")).collect();
        self.judged = broken.len();
        new
    }

    async fn holder(&self) -> Option<String> {
        let args = [
            "-n",
            &self.world.namespace,
            "get",
            "lease",
            "serin-controller",
            "-o",
            "jsonpath={.spec.holderIdentity}",
        ];
        self.world.lab.kubectl(&args).await.ok()
    }

    /// The leader stops until the second copy leads, works for a while, and goes on.
    async fn two_leaders(&self) -> Result {
        let lab = &self.world.lab;
        let copy = self.copy.as_ref().ok_or("a copy runs")?;
        let first = self.holder().await.ok_or("somebody leads")?;
        copy.signal("STOP").await?;
        let other = || async { self.holder().await.filter(|h| *h != first) };
        lab.until("the second copy to lead", LIMIT, other).await?;
        let ends = copy.ends();
        copy.signal("CONT").await?;
        // Whoever finds that it lost the lease ends.
        let ended = || async { (copy.ends() > ends).then_some(()) };
        Ok(lab.until("the deposed leader to end", LIMIT, ended).await?)
    }
}

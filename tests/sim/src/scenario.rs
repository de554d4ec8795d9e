//! A scenario of the virtual cluster, played by the real controller in the simulated world. What its
//! faults are is said in `docs/scenarios.md`; the virtual cluster cannot play those.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path as File, PathBuf},
};

use jiff::SignedDuration;
use serde_json::{Value, json};
use serin::{
    api::{Rollout, status::HistoryEntry, units::HumanDuration},
    model::object::{ObjectRef, Objects},
    sim::{
        Scenario, Simulation,
        cluster::{Cluster, names::Names},
        expect::{End, with_hashes},
        holds,
        scenario::{Event, Fault, Version},
        with_version,
    },
};

use crate::{
    api::{
        kinds::{EVENT, KINDS, LEASE, POD, ROLLOUT, ROUTE, SET, TEMPLATE},
        store::{Path, text},
    },
    cases::Case,
    laws::{Laws, seen::HASH},
    nature::{
        Health,
        metrics::Said,
        pods::{CRASHES, serves},
        version,
    },
    people::{Act, signed},
    play::{Report, Run, alone, failed},
    storm::Gust,
    weather::Fate,
    world::{Who, World, lock},
};

/// Between two events Serin has its say, for so long at most, in milliseconds.
const SAY: u64 = 100;
/// How far behind a watch of the past is, in seconds.
const PAST: u64 = 60;
/// The image of a container.
const IMAGE: &str = "/spec/containers/0/image";

/// The scenarios of this project, and where they are; but for those of a Deployment, whose controller is not
/// simulated here.
pub fn all() -> Result<Vec<PathBuf>, String> {
    let folder = File::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut all: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .filter(|p| Scenario::read(p).map_or(true, |s| s.given.spec.get("workloadRef").is_none()))
        .collect();
    all.sort();
    Ok(all)
}

/// The file of a scenario; of this project's, its name is enough.
pub fn file(name: &str) -> Result<PathBuf, String> {
    let own = all()?
        .into_iter()
        .find(|p| p.file_stem().is_some_and(|s| s == name));
    let path = own.unwrap_or_else(|| PathBuf::from(name));
    match path.is_file() {
        true => Ok(path),
        false => Err(format!(
            "{name:?} is neither a file nor the name of a scenario"
        )),
    }
}

/// Plays the scenario of a file.
pub fn play(path: &File, verbose: bool) -> Report {
    let played = Scenario::read(path).and_then(|scenario| {
        alone(1, async move || whole(&scenario, verbose).await).and_then(|played| played)
    });
    played.unwrap_or_else(|e| failed(format!("{}: {e}", path.display())))
}

fn ms(duration: &HumanDuration) -> u64 {
    let parsed = duration.parse().ok();
    parsed.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

fn millis(span: &SignedDuration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(0)
}

async fn whole(scenario: &Scenario, verbose: bool) -> Result<Report, String> {
    let cluster = Simulation::new(scenario)?.cluster;
    let rollout = cluster.rollout.clone();
    let case = Case::of(&rollout.ok_or("there is no Rollout")?);
    let mut world = World::new(1, Laws::new(case), verbose);
    world.nature.disturbed = scenario.expect.void_allowed;
    world.prepare(scenario, &cluster);
    let mut stage = Stage {
        run: Run::new(world, false),
        accept: cluster.accept_after,
        effect: cluster.effect_after,
    };
    stage.run.boot();
    let (end, mut events) = (ms(&scenario.until), VecDeque::from(scenario.events.clone()));
    loop {
        let now = lock(&stage.run.world).now();
        // In order: an event waits for those before it.
        if events.front().is_some_and(|e| stage.is_due(e, now))
            && let Some(event) = events.pop_front()
        {
            stage.happen(&event)?;
            let next = events.front();
            if next.is_some_and(|e| e.at.is_some() || e.when.is_some()) {
                stage.go_on((now + SAY).min(end)).await;
            }
            continue;
        }
        if now >= end {
            break;
        }
        let at = events.front().and_then(|e| e.at.as_ref()).map(ms);
        stage
            .go_on(at.filter(|at| *at > now).unwrap_or(end).min(end))
            .await;
    }
    let faults = stage.faults(scenario);
    let mut report = stage.run.report();
    report.broken.extend(faults);
    Ok(report)
}

/// A world in which a scenario is played.
struct Stage {
    run: Run,
    /// From a route's change to its acceptance.
    accept: SignedDuration,
    /// From a route's change to its effect.
    effect: SignedDuration,
}

fn rollout() -> Path {
    Path::new(ROLLOUT, "app")
}

fn version_of_rollout(world: &World) -> Option<String> {
    let rollout = world.store.get(&rollout())?;
    Some(text(rollout, "/metadata/resourceVersion").to_owned())
}

impl World {
    /// What the Rollout calls its Services and routes, as it is written now.
    fn names(&self) -> Option<Names> {
        let rollout = self.store.get(&rollout())?;
        let rollout = serde_json::from_value((**rollout).clone()).ok()?;
        Some(Names::of(&rollout))
    }

    /// The cluster as the scenario has it.
    fn prepare(&mut self, scenario: &Scenario, cluster: &Cluster) {
        let ready = millis(&cluster.ready_after);
        self.nature.times.ready = (ready, ready);
        self.set_times(cluster.accept_after, cluster.effect_after);
        let health = |version: &Version| match (version.no_image, version.crash) {
            (true, _) => Health::NoImage,
            (_, true) => Health::Broken,
            _ if version.unschedulable => Health::Homeless,
            _ if version.never_ready => Health::Mute,
            _ => Health::Good,
        };
        let versions = scenario.world.versions.iter();
        self.nature.health = versions
            .map(|(name, v)| (name.clone(), health(v)))
            .collect();
        self.nature.said = Some(Said {
            answers: BTreeMap::new(),
            versions: scenario.world.versions.clone(),
            served: vec![0],
        });
        self.nature.force.weights = (100, 0);
        for (reference, object) in &cluster.objects {
            if let Some(kind) = kind(reference.kind.kind) {
                self.make(kind, &reference.name, object.clone());
            }
        }
        for (name, template) in &scenario.given.templates {
            let template = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate",
                "metadata": {"name": name}, "spec": Said::marked(template.clone())});
            self.make(TEMPLATE, name, template);
        }
        let mut value = json!(cluster.rollout);
        let annotations = value["metadata"]["annotations"].take();
        value["metadata"] = json!({"name": "app", "namespace": "ns", "annotations": annotations});
        if let Some(value) = value.as_object_mut() {
            value.remove("status");
        }
        self.create_rollout(value);
    }

    /// From a route's change to its acceptance, and to its effect.
    fn set_times(&mut self, accept: SignedDuration, effect: SignedDuration) {
        let (accept, effect) = (millis(&accept), millis(&effect));
        let after = effect.saturating_sub(accept);
        self.nature.times.accept = (accept, accept);
        self.nature.times.effect = (after, after);
    }

    /// The laws know one way in which traffic is shifted: from here on they say nothing where there
    /// is another.
    fn rewritten(&mut self) {
        let found = self.store.get(&rollout());
        let found = found.and_then(|r| serde_json::from_value::<Rollout>((**r).clone()).ok());
        let Some(mut written) = found else {
            return;
        };
        // The status may hold on to the former way.
        written.status = None;
        let case = Case::of(&written);
        let old = &self.laws.case;
        if (&case.roles, case.routed) != (&old.roles, old.routed) {
            let now = self.now();
            self.log.note(now, "the laws are silent from here on");
            self.laws.silent = true;
        }
    }

    fn make(&mut self, kind: usize, name: &str, mut object: Value) {
        object["metadata"] = json!({"name": name, "namespace": "ns"});
        self.put(Who::People, &Path::new(kind, name), Some(object));
    }

    /// The pods of a version that stay, those that are ready first.
    fn pods_at(&self, wanted: &str) -> Vec<Path> {
        let pods = self.store.all(POD);
        let of = pods.filter(|(_, p)| {
            version(text(p, IMAGE)) == wanted && p["metadata"]["deletionTimestamp"].is_null()
        });
        let mut all: Vec<(bool, Path)> = of.map(|(path, p)| (!serves(p), path.clone())).collect();
        all.sort();
        all.into_iter().map(|(_, path)| path).collect()
    }

    /// The versions of revisions, with their hashes.
    fn revisions(&self) -> Vec<(String, String)> {
        let image = "/spec/template/spec/containers/0/image";
        let sets = self.store.all(SET);
        sets.map(|(_, s)| (version(text(s, image)).to_owned(), text(s, HASH).to_owned()))
            .collect()
    }
}

/// A kind by its name.
fn kind(name: &str) -> Option<usize> {
    KINDS.iter().position(|k| k.of.kind == name)
}

impl Stage {
    /// Until then, or until the Rollout is written.
    async fn go_on(&mut self, end: u64) {
        let seen = version_of_rollout(&lock(&self.run.world));
        let told = |world: &World| version_of_rollout(world) != seen;
        self.run.until_or(end, told).await;
    }

    /// Whether an event happens now.
    fn is_due(&self, event: &Event, now: u64) -> bool {
        let world = lock(&self.run.world);
        let status = || {
            let rollout = world.store.get(&rollout())?;
            serde_json::from_value(rollout["status"].clone()).ok()
        };
        event.at.as_ref().is_none_or(|at| ms(at) <= now)
            && event
                .when
                .as_ref()
                .is_none_or(|when| status().is_some_and(|s| holds(&s, when)))
    }

    fn happen(&mut self, event: &Event) -> Result<(), String> {
        self.people(event)?;
        self.pods(event);
        {
            let mut world = lock(&self.run.world);
            let now = world.now();
            for (metric, says) in &event.metrics {
                world
                    .log
                    .note(now, &format!("metric {metric} answers {says}"));
            }
            if let Some(said) = &mut world.nature.said {
                said.answers.extend(event.metrics.clone());
            }
            let times = |d: &Option<HumanDuration>, now: &mut SignedDuration| {
                if let Some(d) = d {
                    *now = SignedDuration::from_millis(i64::try_from(ms(d)).unwrap_or(0));
                }
            };
            times(&event.accept_after, &mut self.accept);
            times(&event.effect_after, &mut self.effect);
            world.set_times(self.accept, self.effect);
            world.weather.contend += event.contend.unwrap_or(0);
            if let Some(n) = event.refuse {
                world.weather.foretell(n, Fate::Refused(429));
            }
            if event.kill_controller {
                world.weather.foretell(1, Fate::CrashBefore);
            }
            if let Some(most) = event.quota {
                world.act(Act::Quota(u64::from(most)));
            }
            if event.lose_status {
                world.act(Act::LoseStatus);
            }
            if event.delete {
                world.log.note(now, "people: the Rollout is deleted");
                world.delete_rollout();
            }
        }
        event.faults.iter().try_for_each(|fault| self.fault(fault))
    }

    /// What people write.
    fn people(&mut self, event: &Event) -> Result<(), String> {
        let mut world = lock(&self.run.world);
        if let Some(version) = &event.version {
            world.edit(Who::People, &rollout(), |r| {
                r["spec"]["template"] = with_version(&r["spec"]["template"], version);
            });
        }
        if let Some(patch) = &event.spec {
            world.edit(Who::People, &rollout(), |r| {
                json_patch::merge(&mut r["spec"], patch);
            });
            world.rewritten();
        }
        let revisions = world.revisions();
        for (name, value) in &event.annotate {
            world.edit(Who::People, &rollout(), |r| {
                let value = value
                    .replace("$canary", text(r, "/status/attempt/hash"))
                    .replace("$stable", text(r, "/status/stableRevision"));
                let value = with_hashes(&value, &revisions);
                r["metadata"]["annotations"][name] = json!(value);
            });
        }
        let names = world.names();
        let routes = event.route.iter().zip(&names);
        for (reference, route) in routes.flat_map(|(weights, names)| names.routes(*weights)) {
            let path = Path::new(ROUTE, &reference.name);
            if world.store.get(&path).is_some() {
                world.edit(Who::People, &path, |r| {
                    r["spec"] = route["spec"].clone();
                    signed(r);
                });
            } else {
                world.make(ROUTE, &path.name.clone(), route);
            }
        }
        for (name, patch) in &event.edit {
            let name = with_hashes(name, &world.revisions());
            let path = name
                .split_once('/')
                .and_then(|(of, name)| Some(Path::new(kind(of)?, name)))
                .filter(|path| world.store.get(path).is_some())
                .ok_or_else(|| format!("there is no {name}"))?;
            world.nature.disturbed = true;
            match patch {
                Value::Null => drop(world.put(Who::People, &path, None)),
                patch => world.edit(Who::People, &path, |o| json_patch::merge(o, patch)),
            }
        }
        if let Some(patch) = &event.status {
            world.edit(Who::People, &rollout(), |r| {
                json_patch::merge(&mut r["status"], patch);
            });
        }
        Ok(())
    }

    /// What becomes of pods.
    fn pods(&mut self, event: &Event) {
        let mut world = lock(&self.run.world);
        for path in event
            .crash
            .iter()
            .flat_map(|v| world.pods_at(v))
            .collect::<Vec<_>>()
        {
            world.nature.disturbed = true;
            world.ready(&path, false);
            world.trouble(&path, CRASHES);
        }
        let one = event
            .unready
            .iter()
            .find_map(|v| world.pods_at(v).into_iter().next());
        if let Some(path) = one {
            world.nature.disturbed = true;
            world.ready(&path, false);
        }
        for path in event
            .ready
            .iter()
            .flat_map(|v| world.pods_at(v))
            .collect::<Vec<_>>()
        {
            world.edit(Who::Nature, &path, |pod| {
                pod["status"]["containerStatuses"] = json!([]);
            });
            world.ready(&path, true);
        }
    }

    /// What goes wrong.
    fn fault(&mut self, fault: &Fault) -> Result<(), String> {
        let of = |name: &str| {
            let known = kind(name).filter(|k| !matches!(*k, EVENT | LEASE));
            known.ok_or_else(|| format!("faults: {name:?} is no kind that is watched"))
        };
        let seconds = |d: &HumanDuration| ms(d) / 1000;
        let gust = match fault {
            Fault::CutWatch(kind) => Gust::Cut(of(kind)?),
            Fault::SilentWatch(l) => Gust::Hide(of(&l.kind)?, seconds(&l.lasts)),
            Fault::PastWatch(l) => Gust::Past(of(&l.kind)?, PAST, seconds(&l.lasts)),
            Fault::Forbid(l) => Gust::Forbid(of(&l.kind)?, seconds(&l.lasts)),
            Fault::Compact => Gust::Compact,
            Fault::Crash => Gust::Crash,
            Fault::SecondLeader(lasts) => Gust::Twin(seconds(lasts)),
            Fault::LoseWrites(n) => return self.foretell(*n, Fate::Lost),
            Fault::LoseAnswers(n) => return self.foretell(*n, Fate::Unknown),
        };
        self.run.gust(gust);
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, reason = "it is one of a fault's ends")]
    fn foretell(&mut self, n: u32, fate: Fate) -> Result<(), String> {
        lock(&self.run.world).weather.foretell(n, fate);
        Ok(())
    }

    /// What is not as the scenario wants it.
    fn faults(&self, scenario: &Scenario) -> Vec<String> {
        let world = lock(&self.run.world);
        let found = world.store.get(&rollout());
        let found: Option<Rollout> = found.and_then(|r| serde_json::from_value((**r).clone()).ok());
        let mut objects = Objects::new();
        for kind in (0..KINDS.len()).filter(|k| *k != ROLLOUT) {
            for (path, object) in world.store.all(kind) {
                let reference = ObjectRef::new(KINDS[kind].of, path.name.as_str());
                objects.insert(reference, (**object).clone());
            }
        }
        let mut pods = BTreeMap::new();
        for (_, pod) in world.store.all(POD) {
            if pod["metadata"]["deletionTimestamp"].is_null() {
                *pods
                    .entry(version(text(pod, IMAGE)).to_owned())
                    .or_insert(0) += 1;
            }
        }
        let said = world
            .nature
            .said
            .as_ref()
            .filter(|_| world.laws.case.routed);
        scenario.expect.faults(&End {
            rollout: found.as_ref(),
            objects: &objects,
            revisions: world.revisions(),
            pods,
            served: said.map(|s| s.served.clone()),
            history: history(&world),
            counts: None,
        })
    }
}

/// Everything that the history ever said.
fn history(world: &World) -> Vec<HistoryEntry> {
    let mut all: Vec<HistoryEntry> = vec![];
    let of = world.store.history().iter().filter(|p| p.path == rollout());
    for past in of.filter_map(|p| p.new.as_ref()) {
        let entries = past["status"]["history"].as_array().into_iter().flatten();
        let mut entries: Vec<HistoryEntry> = entries
            .filter_map(|h| serde_json::from_value(h.clone()).ok())
            .collect();
        entries.sort_by_key(|h| h.number);
        let last = all.last().map_or(0, |h| h.number);
        all.extend(entries.into_iter().filter(|h| h.number > last));
    }
    all
}

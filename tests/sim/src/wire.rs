//! The wire between a process and the API server.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    api::{
        answer::{self, Asked},
        kinds::{EVENT, KINDS, LEASE, ROLLOUT},
        store::text,
        watch,
        write::{self, Refusal},
    },
    laws::seen::Seen,
    weather::Fate,
    world::{Shared, Who, World, lock},
};

/// A client of the API server for a process.
pub fn client(world: &Shared, life: usize) -> Client {
    let world = Arc::clone(world);
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let world = Arc::clone(&world);
        async move { respond(&world, life, request).await }
    });
    Client::new(service, "ns")
}

fn broken() -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::ConnectionReset,
        "connection reset by peer",
    )
}

async fn wait(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

async fn respond(
    world: &Shared,
    life: usize,
    request: Request<kube::client::Body>,
) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| broken())?.to_bytes();
    let Some(asked) = Asked::parse(&head, &body) else {
        return Ok(answer::refused(&Refusal::no_such_path()));
    };
    let Some((fate, there, back, seen)) = depart(&mut lock(world), life, &asked) else {
        return std::future::pending().await;
    };
    wait(there).await;
    let done = |late: u64| {
        let (world, asked) = (Arc::clone(world), asked.clone());
        // What is sent arrives, whatever becomes of the sender.
        tokio::spawn(async move {
            wait(late).await;
            carry_out(&world, life, &asked, &seen)
        })
    };
    match fate {
        Fate::Done if asked.watches() => Ok(watch::begin(world, life, asked)),
        Fate::Done => {
            let response = done(0).await.map_err(|_| broken())?;
            wait(back).await;
            Ok(response)
        }
        Fate::Lost => Err(broken()),
        Fate::Unknown => {
            drop(done(0).await);
            Err(broken())
        }
        Fate::Refused(code) => Ok(answer::refused(&refusal(code))),
        Fate::FailedButDone => {
            drop(done(0).await);
            Ok(answer::refused(&refusal(500)))
        }
        Fate::Late(ms) => {
            drop(done(ms));
            Err(broken())
        }
        Fate::Hangs => std::future::pending().await,
        Fate::CrashBefore => {
            lock(world).kill(life);
            std::future::pending().await
        }
        Fate::CrashAfter => {
            let _: Result<_, _> = done(0).await;
            lock(world).kill(life);
            std::future::pending::<Result<_, std::io::Error>>().await
        }
    }
}

/// A request sets out: what becomes of it, how long it takes there and back, and what its sender
/// knows. Nothing where its sender is dead.
fn depart(world: &mut World, life: usize, asked: &Asked) -> Option<(Fate, u64, u64, Seen)> {
    if world.dead.contains(&life) {
        return None;
    }
    let counts = asked.writes() && !matches!(asked.path.kind, EVENT | LEASE);
    let number = counts.then_some(world.writes);
    world.writes += u64::from(counts);
    let now = world.now();
    let commits = asked.path.kind == ROLLOUT && asked.status;
    let fate = match number {
        Some(_) if world.weather.forbids(asked.path.kind, now) => Fate::Refused(403),
        _ => world.weather.fate(number, counts && !commits),
    };
    if fate != Fate::Done {
        let line = format!("serin-{life}: {} {}", asked.words(), fate.word());
        world.log.note(now, &line);
    }
    let seen = if asked.writes() {
        world.laws.seen(now, life, commits)
    } else {
        Seen::default()
    };
    Some((fate, world.weather.latency(), world.weather.latency(), seen))
}

fn refusal(code: u16) -> Refusal {
    match code {
        409 => Refusal::new(
            409,
            "Conflict",
            "the object has been modified; please apply your changes to the latest version and try again",
        ),
        429 => Refusal::new(
            429,
            "TooManyRequests",
            "too many requests, please try again later",
        ),
        403 => Refusal::new(
            403,
            "Forbidden",
            "user \"serin\" cannot create resource in API group in the namespace \"ns\"",
        ),
        503 => Refusal::new(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        _ => Refusal::new(500, "InternalError", "etcdserver: request timed out"),
    }
}

/// A request arrives.
fn carry_out(world: &Shared, life: usize, asked: &Asked, seen: &Seen) -> Response<Body> {
    let mut world = lock(world);
    let now = world.now();
    if asked.method == "GET" {
        return match answer::read(&world.store, asked) {
            Ok((value, objects)) => {
                for object in &objects {
                    let mut path = asked.path.clone();
                    path.namespace = "ns".into();
                    path.name = text(object, "/metadata/name").to_owned();
                    world.laws.learn(now, life, &path, Some(object));
                }
                answer::ok(&value)
            }
            Err(refusal) => answer::refused(&refusal),
        };
    }
    if asked.method == "PATCH" && asked.path.kind != ROLLOUT && world.weather.contend > 0 {
        world.weather.contend -= 1;
        let stamp = world.stamp();
        world.edit(Who::People, &asked.path, |o| {
            o["metadata"]["labels"]["touched"] = json!(stamp.replace(':', "-"));
        });
    }
    match change(&world, asked) {
        Ok((path, change)) => {
            let there = world.store.get(&path).is_some();
            let object = world.land(life, &path, change, seen);
            let stays = world.store.get(&path).cloned();
            if !there && asked.bare {
                world.store.bare.insert(path.clone());
            }
            if stays.is_none() {
                world.store.bare.remove(&path);
            }
            world.laws.learn(now, life, &path, stays.as_ref());
            match asked.method.as_str() {
                "POST" | "PUT" if !there => answer::made(&object),
                "DELETE" if stays.is_none() && !KINDS[path.kind].shows_gone() => {
                    answer::ok(&answer::gone(&path, &object))
                }
                _ => answer::ok(&object),
            }
        }
        Err(refusal) => {
            let now = world.now();
            world.log.note(
                now,
                &format!("serin-{life}: {} refused {}", asked.words(), refusal.code),
            );
            answer::refused(&refusal)
        }
    }
}

/// What a write comes to.
pub fn change(
    world: &World,
    asked: &Asked,
) -> Result<(crate::api::store::Path, write::Change), Refusal> {
    let (terms, stamp) = (asked.terms(), world.stamp());
    let mut path = asked.path.clone();
    let change = match asked.method.as_str() {
        "POST" => {
            path.name = text(&asked.body, "/metadata/name").to_owned();
            write::create(&world.store, &path, asked.body.clone(), &terms, &stamp)
        }
        "PUT" | "PATCH" => write::update(&world.store, &path, asked.edit(), &terms, &stamp),
        "DELETE" => write::delete(&world.store, &path, &asked.body, &stamp),
        other => Err(Refusal::new(405, "MethodNotAllowed", other)),
    }?;
    Ok((path, change))
}

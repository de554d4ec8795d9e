//! The lease, in simulated time.

use std::{sync::Arc, time::Duration};

use serin::{
    adapters::cluster::lease::{Elector, LeaseError},
    controller::context::Clock,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::apiserver::{Fault, Server};

type Election = JoinHandle<Result<(), LeaseError>>;

/// Takes part as `id`; who sends into the last handle hands over.
fn join(server: &Arc<Server>, id: &str) -> (Election, watch::Receiver<bool>, watch::Sender<bool>) {
    let clock = Clock::starting_at(jiff::Timestamp::UNIX_EPOCH);
    let now = Arc::new(move || clock.now());
    let elector = Elector::new(server.client(), "ns", "serin", id, now);
    let leads = elector.leads();
    let (stop, mut stopped) = watch::channel(false);
    let run = async move {
        elector
            .run(async move { drop(stopped.wait_for(|s| *s).await) })
            .await
    };
    (tokio::spawn(run), leads, stop)
}

async fn until_leads(leads: &mut watch::Receiver<bool>) -> Duration {
    let began = Instant::now();
    leads.wait_for(|l| *l).await.expect("it goes on");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_noticed_and_a_shutdown_hands_over() {
    let server = Server::new();
    let (a, mut a_leads, _a_stop) = join(&server, "a");
    until_leads(&mut a_leads).await;
    let (b, mut b_leads, b_stop) = join(&server, "b");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(*a_leads.borrow() && !*b_leads.borrow(), "one leads");

    a.abort();
    let took = until_leads(&mut b_leads).await;
    assert!(
        (13..=19).contains(&took.as_secs()),
        "took over after {took:?}"
    );

    let (_c, mut c_leads, _c_stop) = join(&server, "c");
    tokio::time::sleep(Duration::from_secs(5)).await;
    b_stop.send_replace(true);
    b.await.expect("no panic").expect("handed over");
    assert!(!*b_leads.borrow());
    let took = until_leads(&mut c_leads).await;
    assert!(took <= Duration::from_secs(2), "took over after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_gives_up_before_another_may_take_over() {
    let server = Server::new();
    let (a, mut a_leads, _stop) = join(&server, "a");
    until_leads(&mut a_leads).await;
    let lost = Instant::now();
    // It hangs: no answer at all.
    for method in ["GET", "PUT"] {
        server.fail(Fault {
            method,
            plural: "leases",
            code: 0,
            times: usize::MAX,
        });
    }
    let result = timeout(Duration::from_secs(60), a)
        .await
        .expect("it ends")
        .expect("no panic");
    assert!(matches!(result, Err(LeaseError::Lost)));
    assert!(
        lost.elapsed() < Duration::from_secs(15),
        "gave up after {:?}",
        lost.elapsed()
    );
    assert!(!*a_leads.borrow());
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_without_a_look() {
    let server = Server::new();
    let (a, mut a_leads, _stop) = join(&server, "a");
    until_leads(&mut a_leads).await;
    server.fail(Fault {
        method: "GET",
        plural: "leases",
        code: 500,
        times: usize::MAX,
    });
    let before = server.writes().len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(*a_leads.borrow() && !a.is_finished());
    assert!(server.writes().len() > before, "it is renewed");
}

#[tokio::test(start_paused = true)]
async fn a_short_disturbance_costs_nothing() {
    let server = Server::new();
    let (a, mut a_leads, _stop) = join(&server, "a");
    until_leads(&mut a_leads).await;
    server.fail(Fault {
        method: "GET",
        plural: "leases",
        code: 500,
        times: 2,
    });
    server.fail(Fault {
        method: "PUT",
        plural: "leases",
        code: 409,
        times: 1,
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(*a_leads.borrow() && !a.is_finished());
    // Somebody takes it by force.
    server.edit("coordination.k8s.io/v1/leases", "serin", |l| {
        l["spec"]["holderIdentity"] = "b".into()
    });
    let result = timeout(Duration::from_secs(5), a)
        .await
        .expect("it ends")
        .expect("no panic");
    assert!(matches!(result, Err(LeaseError::Lost)));
}

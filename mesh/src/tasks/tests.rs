use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::mpsc;

use super::*;

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_stop_waits_for_what_has_begun() {
    let tasks = Tasks::default();
    let ended = Arc::new(AtomicBool::new(false));
    tasks.spawn({
        let (tasks, ended) = (tasks.clone(), Arc::clone(&ended));
        async move {
            tasks.stopped().await;
            tokio::task::yield_now().await;
            ended.store(true, Ordering::SeqCst);
        }
    });

    assert!(tasks.finish(LONG).await);
    assert!(ended.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let tasks = Tasks::default();
    tasks.spawn(std::future::pending());

    assert!(!tasks.finish(Duration::from_millis(1)).await);
}

#[tokio::test]
async fn repeated_work_runs_at_once_and_again_until_the_stop() {
    for (pause, runs) in [(LONG, 1), (Duration::from_millis(1), 3)] {
        let tasks = Tasks::default();
        let (ran, mut runs_seen) = mpsc::unbounded_channel();
        tasks.every(pause, move || {
            ran.send(()).expect("the test listens");
            std::future::ready(())
        });

        for _ in 0..runs {
            runs_seen.recv().await.expect("the work goes on");
        }
        assert!(tasks.finish(LONG).await, "the pause is cut short");
        while runs_seen.try_recv().is_ok() {}
        assert!(runs_seen.recv().await.is_none(), "the work is over and dropped");
    }
}

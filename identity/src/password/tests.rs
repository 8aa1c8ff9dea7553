use std::{
    future::Future as _,
    task::{Context, Poll, Waker},
    time::Duration,
};

use argon2::Block;

use super::{HashError, Passwords, StoredHash, Verdict, WAITING_PER_THREAD_MAX};
use crate::{config::PasswordConfig, domain::Password};

/// As cheap as argon2 allows.
fn config() -> PasswordConfig {
    PasswordConfig { memory_kib: 8, iterations: 1, parallelism: 1, threads: 1 }
}

fn password() -> Password {
    Password::presented("correct horse".to_owned())
}

#[tokio::test]
async fn only_the_password_itself_matches_its_hash() {
    let passwords = Passwords::start(&config()).expect("started");
    let hash = passwords.make(password()).await.expect("hashed");
    let stored = StoredHash::new(hash.as_str().to_owned());

    assert!(hash.as_str().starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{}", hash.as_str());
    let verify =
        async |text: &str| passwords.verify(Password::presented(text.to_owned()), Some(&stored)).await;
    assert_eq!(verify("correct horse").await, Ok(Verdict::Right { outdated: false }));
    assert_eq!(verify("correct horse ").await, Ok(Verdict::Wrong));
    assert_eq!(verify("").await, Ok(Verdict::Wrong));
}

#[tokio::test]
async fn the_same_password_never_has_the_same_hash() {
    let passwords = Passwords::start(&config()).expect("started");
    let first = passwords.make(password()).await.expect("hashed");
    let second = passwords.make(password()).await.expect("hashed");
    assert_ne!(first.as_str(), second.as_str());
}

#[tokio::test]
async fn no_account_means_wrong_at_the_cost_of_the_present_parameters() {
    let passwords = Passwords::start(&config()).expect("started");
    assert_eq!(passwords.verify(password(), None).await, Ok(Verdict::Wrong));
    assert!(passwords.dummy.as_str().starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
}

#[tokio::test]
async fn a_hash_with_other_parameters_matches_and_is_outdated() {
    let small = Passwords::start(&config()).expect("started");
    let large = Passwords::start(&PasswordConfig { memory_kib: 64, ..config() }).expect("started");
    let of = async |passwords: &Passwords| {
        StoredHash::new(passwords.make(password()).await.expect("hashed").as_str().to_owned())
    };

    // Larger than the thread's buffer, and smaller.
    assert_eq!(
        small.verify(password(), Some(&of(&large).await)).await,
        Ok(Verdict::Right { outdated: true })
    );
    assert_eq!(
        large.verify(password(), Some(&of(&small).await)).await,
        Ok(Verdict::Right { outdated: true })
    );
}

#[tokio::test]
async fn a_stored_hash_that_is_foreign_or_too_costly_is_not_computed() {
    let passwords = Passwords::start(&config()).expect("started");
    let salt_and_hash = "c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";
    let stored = [
        "password".to_owned(),
        format!("$argon2i$v=19$m=8,t=1,p=1${salt_and_hash}"),
        format!("$argon2id$v=16$m=8,t=1,p=1${salt_and_hash}"),
        format!("$argon2id$v=19$m=1048576,t=1,p=1${salt_and_hash}"),
        format!("$argon2id$v=19$m=8,t=11,p=1${salt_and_hash}"),
        format!("$argon2id$v=19$m=1024,t=1,p=17${salt_and_hash}"),
        "$argon2id$v=19$m=8,t=1,p=1".to_owned(),
    ];
    for stored in stored {
        let verdict = passwords.verify(password(), Some(&StoredHash::new(stored.clone()))).await;
        assert_eq!(verdict, Err(HashError::Unusable), "{stored}");
    }
}

/// Polls a hash once: it is in the queue, or refused.
macro_rules! enqueue {
    ($passwords:expr) => {{
        let mut hash = Box::pin($passwords.make(password()));
        let refused = matches!(
            hash.as_mut().poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(Err(HashError::QueueFull))
        );
        (hash, refused)
    }};
}

#[tokio::test]
async fn callers_who_disconnect_cannot_fill_the_queue_or_buy_a_hash() {
    // No thread takes anything out yet.
    let passwords = Passwords::with_queue(&config()).expect("made");

    for _ in 0..100 {
        let (hash, refused) = enqueue!(passwords);
        assert!(!refused, "those before have gone");
        drop(hash);
    }
    assert!(passwords.queue.0.waiting() <= WAITING_PER_THREAD_MAX);

    let waiting: Vec<_> = (0..WAITING_PER_THREAD_MAX).map(|_| enqueue!(passwords)).collect();
    assert!(waiting.iter().all(|(_, refused)| !refused));
    let (_, refused) = enqueue!(passwords);
    assert!(refused, "the queue is full of callers who wait");

    // All but one go away; a thread that comes now computes one hash.
    let mut waiting = waiting.into_iter().map(|(hash, _)| hash);
    let (kept, gone) = (waiting.next().expect("one"), waiting.collect::<Vec<_>>());
    drop(gone);
    passwords.queue.0.close();
    let mut memory = vec![Block::new(); passwords.params.block_count()];
    let computed = passwords.queue.0.work(&mut memory);
    assert_eq!(computed, 1);
    kept.await.expect("the caller who stayed has a hash");
}

#[tokio::test]
async fn a_caller_who_waited_too_long_is_refused_and_leaves_the_queue() {
    let passwords = Passwords { wait_max: Duration::ZERO, ..Passwords::with_queue(&config()).expect("made") };

    let refused = passwords.make(password()).await.map(drop);

    assert_eq!(refused, Err(HashError::QueueFull));
    passwords.queue.0.close();
    assert_eq!(passwords.queue.0.work(&mut []), 0);
}

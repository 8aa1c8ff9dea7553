use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn vault() -> (Vault, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    create_keys_file(&path).unwrap();
    (Vault::new(Arc::new(FileKeys::read(&path).unwrap())), dir)
}

fn card() -> Card {
    let pan = Pan::parse("4242424242424242").unwrap();
    Card { pan, exp_month: 12, exp_year: 2030, holder: Holder("A Traveller".to_owned()) }
}

#[tokio::test]
async fn what_is_sealed_can_be_opened_and_does_not_show() {
    let (vault, _dir) = vault();
    let dek = vault.generate_dek(MERCHANT).await.unwrap();

    let sealed = vault.seal(&dek, VaultCardId::generate(), &card()).await.unwrap();

    assert_eq!(vault.open(&dek, &sealed).await.unwrap(), card());
    assert!(!sealed.ciphertext.windows(4).any(|window| window == b"4242"));
    assert!(!format!("{:?}", card()).contains("4242"));
}

#[tokio::test]
async fn a_ciphertext_that_was_touched_or_moved_is_refused() {
    let (vault, _dir) = vault();
    let dek = vault.generate_dek(MERCHANT).await.unwrap();
    let sealed = vault.seal(&dek, VaultCardId::generate(), &card()).await.unwrap();

    let mut flipped = sealed.clone();
    flipped.ciphertext[3] ^= 1;
    let moved = SealedCard { id: VaultCardId::generate(), ..sealed.clone() };
    let stolen = Dek { merchant: "merchants/other".to_owned(), ..dek.clone() };

    assert!(matches!(vault.open(&dek, &flipped).await, Err(VaultError::NotAuthentic(_))));
    assert!(matches!(vault.open(&dek, &moved).await, Err(VaultError::NotAuthentic(_))));
    assert!(matches!(vault.open(&stolen, &sealed).await, Err(VaultError::Key(KeyError::NotAuthentic))));
}

#[test]
fn a_keys_file_is_private_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_, dir) = vault();
    let path = dir.path().join("keys");
    let before = std::fs::read_to_string(&path).unwrap();

    create_keys_file(&path).unwrap();

    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_keys_file_that_cannot_be_written_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing").join("keys");

    assert_eq!(create_keys_file(&missing).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_keys_file_is_whole_from_the_moment_that_it_is_there() {
    for _ in 0..100 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let created = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !created.load(Ordering::Acquire) {
                    match std::fs::read_to_string(&path) {
                        Ok(text) => return text,
                        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
                    }
                }
                std::fs::read_to_string(&path).unwrap()
            });
            create_keys_file(&path).unwrap();
            created.store(true, Ordering::Release);
            assert_eq!(reader.join().unwrap(), std::fs::read_to_string(&path).unwrap());
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}

#[test]
fn a_keys_file_that_is_damaged_is_refused_with_its_line() {
    let (_, dir) = vault();
    let path = dir.path().join("keys");
    for (text, expected) in
        [("1 00ff\n", "line 1"), ("", "lacks a key"), (&format!("0 {}", "ab".repeat(32)), "line 1")]
    {
        std::fs::write(&path, text).unwrap();
        let error = FileKeys::read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("ff"), "{error}");
    }
}

#[tokio::test]
async fn a_secret_is_bound_to_its_row_and_cannot_pass_for_another() {
    let (vault, _dir) = vault();
    let dek = vault.generate_dek(MERCHANT).await.unwrap();
    let sealed = vault.seal_secret(&dek, WebhookSecretId::generate(), &[7; 32]).await.unwrap();

    assert_eq!(*vault.open_secret(&dek, &sealed).await.unwrap(), [7; 32]);
    let mut flipped = sealed.clone();
    flipped.ciphertext[3] ^= 1;
    let moved = SealedSecret { id: WebhookSecretId::generate(), ..sealed.clone() };
    for damaged in [flipped, moved] {
        let refused = vault.open_secret(&dek, &damaged).await.unwrap_err();
        assert!(matches!(refused, VaultError::SecretNotAuthentic(id) if id == damaged.id), "{refused}");
    }
    assert!(!sealed.ciphertext.windows(4).any(|window| window == [7; 4]));
}

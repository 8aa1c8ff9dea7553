use super::*;

/// Puts a certificate of this age and remaining life where the service's is.
fn plant(ca: &PrivateCa, files: &TlsFiles, age_days: u64, left_days: u64) {
    let workload = Workload::named("bookings").expect("a name");
    let mut params = leaf_params(&workload).expect("parameters");
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(UnixTime::now().as_secs());
    params.not_before = now - Duration::from_hours(24 * age_days);
    params.not_after = now + Duration::from_hours(24 * left_days);
    let key = KeyPair::generate().expect("a key");
    fs::write(&files.certificate, params.signed_by(&key, &ca.issuer).expect("a certificate").pem())
        .expect("a file");
    fs::write(&files.key, key.serialize_pem()).expect("a file");
}

#[test]
fn a_certificate_is_replaced_when_a_third_of_its_life_is_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = PrivateCa::open_or_create(dir.path()).expect("an authority");
    let files = ca.issue("bookings", dir.path()).expect("a certificate");

    for (age_days, left_days, kept) in [(19, 11, true), (21, 9, false)] {
        plant(&ca, &files, age_days, left_days);
        let planted = fs::read(&files.certificate).expect("a certificate");

        ca.issue("bookings", dir.path()).expect("a certificate");

        assert_eq!(
            fs::read(&files.certificate).expect("a certificate") == planted,
            kept,
            "{left_days} days left"
        );
    }
}

#[test]
fn a_key_left_by_a_crash_gets_its_certificate_and_a_lost_key_is_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    PrivateCa::open_or_create(dir.path()).expect("an authority");
    let key = fs::read(dir.path().join("ca.key")).expect("a key");

    fs::remove_file(dir.path().join("ca.crt")).expect("a file");
    PrivateCa::open_or_create(dir.path()).expect("an authority");
    assert_eq!(fs::read(dir.path().join("ca.key")).expect("a key"), key);

    fs::remove_file(dir.path().join("ca.key")).expect("a file");
    assert!(matches!(PrivateCa::open_or_create(dir.path()), Err(CaError::KeyMissing { .. })));
}

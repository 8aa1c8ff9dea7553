//! Card numbers and security codes are nowhere.

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use mesh::auth::PrincipalId;
use proto::payments::v1 as pb;
use secrecy::SecretString;

use crate::harness::{TestPayments, card, key};

const PAN: &str = "378282246310005";
const CVC: &str = "7391";

#[derive(QueryableByName)]
struct Table {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// The tables of a database in which `secret` stands in any column: as a number of its own in text, or as bytes in binary data.
pub(crate) async fn holding(conn: &mut AsyncPgConnection, secret: &str) -> Vec<String> {
    let tables: Vec<Table> = diesel::sql_query(
        "SELECT table_schema || '.' || table_name AS name FROM information_schema.tables \
         WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'",
    )
    .load(conn)
    .await
    .unwrap();
    assert!(!tables.is_empty());
    let mut holding = Vec::new();
    for Table { name } in tables {
        let found: Count = diesel::sql_query(format!(
            "SELECT count(*) FROM {name} AS t WHERE t::text ~ ('(?<![0-9a-f])' || $1 || '(?![0-9a-f])') \
             OR strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0"
        ))
        .bind::<Text, _>(secret)
        .get_result(conn)
        .await
        .unwrap();
        if found.count > 0 {
            holding.push(name);
        }
    }
    holding
}

async fn connection(url: &SecretString) -> AsyncPgConnection {
    mesh::testing::connection(url).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_table_holds_a_card_number_or_security_code() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();
    let request = pb::CreatePaymentMethodRequest {
        card: Some(pb::Card { cvc: CVC.to_owned(), ..card(PAN) }),
        request_id: key(),
    };
    let method = t.methods(user).create_payment_method(request).await.unwrap().into_inner();
    let intent = t.create(user, &method.name).await;
    t.confirm(&intent.name, &key()).await.unwrap();
    t.capture(&intent.name, None, &key()).await.unwrap();
    t.refund(&intent.name, Some(1), &key()).await.unwrap();

    for database in t.databases() {
        let mut conn = connection(&database.url).await;
        assert_eq!(holding(&mut conn, PAN).await, Vec::<String>::new());
        assert_eq!(holding(&mut conn, CVC).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_takes_for_a_card_number_was_refused_before() {
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        held: bool,
    }
    let t = TestPayments::start().await;
    let mut conn = t.conn().await;
    let mut found = 0;
    for text in [
        PAN,
        "12 4242424242424242",
        "4242424242424242 12",
        "7-4242424242424242-123",
        "x4242424242424242x",
        "4242 4242 4242 4242",
        "00000000000000000000 4242424242424242",
        "4242424242424242-4242-4242-8242-424242424242",
        "42424242-4242-4242-8242-4242424242424242",
        "bookings/42424242-4242-4242-8242-424242424242",
        "4242424242424241",
        "42424242424242420000",
        "two seats, 42",
    ] {
        let Held { held } = diesel::sql_query("SELECT holds_card_number($1) AS held")
            .bind::<Text, _>(text)
            .get_result(&mut conn)
            .await
            .unwrap();
        assert!(!held || mesh::free_text::holds_card_number(text), "{text}");
        found += usize::from(held);
    }
    assert_eq!(found, 8, "the examples are good");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_finds_what_is_planted() {
    let t = TestPayments::start().await;
    let mut conn = t.conn().await;
    let plant = format!(
        "INSERT INTO merchants (id, display_name, created_at) VALUES ('M', 'card {PAN} {CVC}', now()); \
         INSERT INTO idempotency_keys (caller, method, key, fingerprint, state, lease_expires_at, recovery_point, response, created_at, \
         expires_at) VALUES ('c', 'm', 'k', decode(repeat('00', 32), 'hex'), 'COMPLETED', now(), 'applied', \
         convert_to('x{PAN}{CVC}x', 'UTF8'), now(), now() + interval '30 days')"
    );
    diesel_async::SimpleAsyncConnection::batch_execute(&mut conn, &plant).await.unwrap();

    for secret in [PAN, CVC] {
        let mut found = holding(&mut conn, secret).await;
        found.sort();
        assert_eq!(found, ["public.idempotency_keys", "public.merchants"]);
    }
}

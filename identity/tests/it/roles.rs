//! Roles, and who may change them.

use futures::future::join_all;
use mesh::auth::PrincipalId;
use proto::identity::v1::{
    AssignRoleRequest, GetUserRequest, ListRolesRequest, admin_service_client::AdminServiceClient,
};
use tonic::Code;

use crate::harness::{TestIdentity, Tokens, reason};

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_administer() {
    let t = TestIdentity::start().await;
    let (user, tokens) = t.customer("ada@example.org").await;

    let refused = t.assign(&tokens.access_token, &user.uid, "admin").await.expect_err("a customer");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let request = AssignRoleRequest { user_id: user.uid.clone(), role: "admin".to_owned() };
    let refused = AdminServiceClient::new(t.channel()).assign_role(request).await.expect_err("nobody");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut client = t.administration(&tokens.access_token);
    assert_eq!(
        client.list_roles(ListRolesRequest {}).await.expect_err("a customer").code(),
        Code::PermissionDenied
    );
    let request = GetUserRequest { user_id: user.uid.clone() };
    assert_eq!(client.get_user(request).await.expect_err("a customer").code(), Code::PermissionDenied);

    assert_eq!(t.me(&tokens.access_token).await.expect("me").roles, ["customer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_that_exist_are_listed_by_name() {
    let t = TestIdentity::start().await;
    let (_, admin) = t.admin("admin@example.org").await;

    let roles = t
        .administration(&admin.access_token)
        .list_roles(ListRolesRequest {})
        .await
        .expect("roles")
        .into_inner();

    let names: Vec<_> = roles.roles.iter().map(|role| role.role.as_str()).collect();
    assert_eq!(names, ["admin", "customer", "flight_company"]);
    assert!(roles.roles.iter().all(|role| !role.description.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_and_taking_a_role_twice_changes_nothing_the_second_time() {
    let t = TestIdentity::start().await;
    let (user, _) = t.customer("ada@example.org").await;
    let (_, admin) = t.admin("admin@example.org").await;
    let sv = async || t.texts(&format!("SELECT sv::text AS text FROM users WHERE id = '{}'", user.uid)).await;

    for _ in 0..2 {
        let assigned = t.assign(&admin.access_token, &user.uid, "flight_company").await.expect("assigned");
        assert_eq!(assigned.roles, ["customer", "flight_company"]);
        assert_eq!(sv().await, ["2"]);
    }
    for _ in 0..2 {
        let revoked = t.revoke(&admin.access_token, &user.uid, "flight_company").await.expect("revoked");
        assert_eq!(revoked.roles, ["customer"]);
        assert_eq!(sv().await, ["3"]);
    }

    // The first `done` made the admin.
    assert_eq!(t.audit("role.assign").await, ["done", "done", "unchanged"]);
    assert_eq!(t.audit("role.revoke").await, ["done", "unchanged"]);
    let request = GetUserRequest { user_id: user.uid.clone() };
    let read = t.administration(&admin.access_token).get_user(request).await.expect("the user").into_inner();
    assert_eq!(read, user);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_users_and_roles_are_not_found() {
    let t = TestIdentity::start().await;
    let (user, _) = t.customer("ada@example.org").await;
    let (_, admin) = t.admin("admin@example.org").await;
    let nobody = PrincipalId::generate().to_string();

    assert_eq!(reason(t.assign(&admin.access_token, &user.uid, "pilot").await), "ROLE_NOT_FOUND");
    assert_eq!(reason(t.revoke(&admin.access_token, &user.uid, "pilot").await), "ROLE_NOT_FOUND");
    assert_eq!(reason(t.assign(&admin.access_token, &nobody, "admin").await), "USER_NOT_FOUND");
    assert_eq!(reason(t.revoke(&admin.access_token, &nobody, "admin").await), "USER_NOT_FOUND");
    let request = GetUserRequest { user_id: nobody };
    let refused = t.administration(&admin.access_token).get_user(request).await.expect_err("nobody");
    assert_eq!(refused.code(), Code::NotFound);
    let refused = t.assign(&admin.access_token, "not-a-uuid", "admin").await.expect_err("no id");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_loses_the_role_that_everybody_has() {
    let t = TestIdentity::start().await;
    let (user, tokens) = t.customer("ada@example.org").await;
    let (_, admin) = t.admin("admin@example.org").await;

    let refused = t.revoke(&admin.access_token, &user.uid, "customer").await.expect_err("the base role");

    assert_eq!(
        (refused.code(), mesh::status::reason(&refused).as_str()),
        (Code::FailedPrecondition, "BASE_ROLE")
    );
    assert_eq!(t.me(&tokens.access_token).await.expect("me"), user);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_stays_one() {
    let t = TestIdentity::start().await;
    let (first, admin) = t.admin("first@example.org").await;
    let (user, _) = t.customer("ada@example.org").await;

    assert_eq!(reason(t.revoke(&admin.access_token, &first.to_string(), "admin").await), "LAST_ADMIN");

    // A second admin who is banned does not count.
    t.assign(&admin.access_token, &user.uid, "admin").await.expect("assigned");
    t.execute(&format!("UPDATE users SET status = 'disabled' WHERE id = '{}'", user.uid))
        .await
        .expect("banned");
    assert_eq!(reason(t.revoke(&admin.access_token, &first.to_string(), "admin").await), "LAST_ADMIN");
    t.execute("UPDATE users SET status = 'active'").await.expect("forgiven");
    let revoked = t.revoke(&admin.access_token, &first.to_string(), "admin").await.expect("there is another");
    assert_eq!(revoked.roles, ["customer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_admins_who_resign_at_once_one_stays() {
    let t = TestIdentity::start().await;
    let admins = [t.admin("first@example.org").await, t.admin("second@example.org").await];

    let resign = async |(id, tokens): &(PrincipalId, Tokens)| {
        t.revoke(&tokens.access_token, &id.to_string(), "admin").await
    };
    let outcomes = join_all(admins.iter().map(resign)).await;

    let reasons: Vec<_> =
        outcomes.into_iter().filter_map(Result::err).map(|status| mesh::status::reason(&status)).collect();
    assert_eq!(reasons, ["LAST_ADMIN"]);
    assert_eq!(t.texts("SELECT role AS text FROM user_roles WHERE role = 'admin'").await, ["admin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_admin_cannot_come_back_with_the_old_token() {
    let t = TestIdentity::start().await;
    t.admin("first@example.org").await;
    let (deposed, old) = t.admin("second@example.org").await;
    // As in the moment before the service has heard that the token is out of date.
    t.execute(&format!("DELETE FROM user_roles WHERE role = 'admin' AND user_id = '{deposed}'"))
        .await
        .expect("deposed");

    let again = t.assign(&old.access_token, &deposed.to_string(), "admin").await.expect_err("refused");
    assert_eq!(again.code(), Code::PermissionDenied);
    let revenge =
        t.revoke(&old.access_token, &deposed.to_string(), "flight_company").await.expect_err("refused");
    assert_eq!(revenge.code(), Code::PermissionDenied);
    assert_eq!(t.me(&old.access_token).await.expect("me").roles, ["customer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_down_cannot_be_changed() {
    let t = TestIdentity::start().await;
    t.sign_up("ada@example.org").await.expect("signed up");

    for sql in ["UPDATE audit_events SET actor = 'me'", "DELETE FROM audit_events", "TRUNCATE audit_events"] {
        let refused = t.execute(sql).await.expect_err("append-only");
        assert!(refused.to_string().contains("append-only"), "{sql}: {refused}");
    }
    assert_eq!(t.audit("user.create").await, ["done"]);
}

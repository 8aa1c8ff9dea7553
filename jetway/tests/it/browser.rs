//! Sessions in cookies, CORS and the defence against forged requests, as a real browser sees them.
//!
//! `localhost` is one site whatever the port, and each port an origin of its own; `127.0.0.1` is another site.

mod chromium;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use serde_json::{Value, json};

use self::chromium::{Chromium, Tab};
use crate::harness::{Up, data_dir, unique};

/// What every page can do: call the gateway, and say how it went. `null` in place of a status: the browser did not let the page see an answer.
const SCRIPT: &str = "
async function call(method, path, body, headers, credentials) {
    try {
        const answer = await fetch(path, {
            method,
            credentials: credentials ?? 'include',
            headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
            body: body === undefined ? undefined : JSON.stringify(body),
        });
        const text = await answer.text();
        let json = {};
        try { json = JSON.parse(text); } catch {}
        const reason = (json.details ?? []).map(detail => detail.reason).find(reason => reason) ?? null;
        return { status: answer.status, reason, body: json, csrf: answer.headers.get('x-jetway-csrf') };
    } catch (error) {
        return { status: null, reason: error.name };
    }
}
";

/// Serves one page with [`SCRIPT`] on every path, as long as the test runs: its port.
fn serve_pages() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A browser opens connections that it may never use.
            thread::spawn(move || stream.and_then(serve_page));
        }
    });
    port
}

fn serve_page(mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let page = format!("<!doctype html><title>a page</title><script>{SCRIPT}</script>");
    let length = page.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
    )
}

/// The browser, and the gateway's address in it.
struct Scene {
    browser: Chromium,
    api: String,
}

impl Scene {
    /// Calls the gateway from a page.
    fn call(&mut self, tab: &Tab, method: &str, path: &str, body: Option<&Value>, headers: &Value) -> Value {
        let (url, body) =
            (format!("{}{path}", self.api), body.map_or("undefined".to_owned(), Value::to_string));
        self.browser.run(tab, &format!("return call('{method}', '{url}', {body}, {headers});"))
    }

    fn get(&mut self, tab: &Tab, path: &str) -> Value {
        self.call(tab, "GET", path, None, &json!({}))
    }

    fn post(&mut self, tab: &Tab, path: &str, body: &Value, headers: &Value) -> Value {
        self.call(tab, "POST", path, Some(body), headers)
    }

    /// A write that a session is needed for.
    fn store_card(&mut self, tab: &Tab, headers: &Value) -> Value {
        let card = json!({ "number": "4242424242424242", "expMonth": 12, "expYear": 2034, "cvc": "123" });
        self.post(tab, "/api/v1/paymentMethods", &json!({ "card": card }), headers)
    }

    /// How many such writes had an effect.
    fn cards(&mut self, tab: &Tab) -> usize {
        let answer = self.get(tab, "/api/v1/paymentMethods");
        assert_eq!(answer["status"], 200, "{answer}");
        answer["body"]["paymentMethods"].as_array().expect("a list").len()
    }

    /// Opens a page that sends a form to the gateway, as any page can, and says what came back.
    fn submit_form(&mut self, page: &str, path: &str) -> String {
        let tab = self.browser.open(page);
        let script = format!(
            "const form = document.createElement('form');
             form.method = 'POST'; form.enctype = 'text/plain'; form.action = '{}{path}';
             const field = document.createElement('input');
             field.name = '{{\"x\":\"'; field.value = '\"}}';
             form.append(field); document.body.append(form); form.submit();",
            self.api
        );
        self.browser.run(&tab, &script);
        self.browser.loaded(&tab);
        self.browser.run(&tab, "return document.body.innerText;").as_str().unwrap_or_default().to_owned()
    }

    /// One of the browser's cookies.
    fn cookie(&mut self, name: &str) -> Option<Value> {
        self.browser.cookies().into_iter().find(|cookie| cookie["name"] == name)
    }

    fn cookie_value(&mut self, name: &str) -> String {
        let cookie = self.cookie(name).unwrap_or_else(|| panic!("no cookie {name}"));
        cookie["value"].as_str().expect("text").to_owned()
    }
}

fn outcome(answer: &Value) -> (Option<u64>, Option<&str>) {
    (answer["status"].as_u64(), answer["reason"].as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_session_is_usable_by_our_pages_and_by_no_others() {
    let (ours, others) = (serve_pages(), serve_pages());
    let data = data_dir();
    // The second one is ours as well, and yet another site than the gateway.
    let (listed, elsewhere) = (format!("http://localhost:{ours}"), format!("http://127.0.0.1:{ours}"));
    let up = Up::start_with(data.path(), &["--origin", &listed, "--origin", &elsewhere]);
    let api = up.url.replace("127.0.0.1", "localhost");
    let mut scene = Scene { browser: Chromium::start(), api };
    let page = scene.browser.open(&listed);
    let listed_cross_site = scene.browser.open(&elsewhere);

    signs_in(&mut scene, &page);
    let csrf = reads_and_writes(&mut scene, &page);
    is_closed_to_other_pages(&mut scene, &page, others, &csrf);
    is_bound_by_same_site_rules(&mut scene, &listed_cross_site, &csrf);
    let csrf = refreshes(&mut scene, &page);
    signs_out(&mut scene, &page, &csrf);
}

fn signs_in(scene: &mut Scene, page: &Tab) {
    let (email, password) = (format!("{}@jetway.example", unique()), format!("secret {}", unique()));
    let nothing = json!({});
    let account = json!({ "email": email, "password": password });
    let answer = scene.post(page, "/api/v1/auth/signup", &account, &nothing);
    assert_eq!(answer["status"], 200, "{answer}");
    let credentials = json!({ "email": email, "password": password, "tokenDelivery": "COOKIE" });
    let answer = scene.post(page, "/api/v1/auth/signin", &credentials, &nothing);
    assert_eq!(answer["status"], 200, "{answer}");
    let tokens = &answer["body"]["tokens"];
    assert!(tokens.get("accessToken").is_none() && tokens.get("refreshToken").is_none(), "{tokens}");

    for (name, http_only, same_site) in [
        ("__Host-jetway_at", true, "Lax"),
        ("__Host-jetway_rt", true, "Strict"),
        ("__Host-jetway_csrf", false, "Strict"),
    ] {
        let cookie = scene.cookie(name).unwrap_or_else(|| panic!("the browser did not take {name}"));
        assert_eq!(cookie["httpOnly"], http_only, "{cookie}");
        assert_eq!(cookie["sameSite"], same_site, "{cookie}");
        assert_eq!((&cookie["secure"], &cookie["path"]), (&json!(true), &json!("/")), "{cookie}");
    }
    let visible = scene.browser.run(page, "return document.cookie;");
    let visible = visible.as_str().expect("text");
    assert!(visible.contains("__Host-jetway_csrf="), "{visible}");
    assert!(!visible.contains("jetway_at") && !visible.contains("jetway_rt"), "{visible}");
}

/// What the session is for: the CSRF token that a page needs.
fn reads_and_writes(scene: &mut Scene, page: &Tab) -> String {
    assert_eq!(scene.get(page, "/api/v1/me")["status"], 200);
    let url = format!("{}/api/v1/me", scene.api);
    let script = format!("return call('GET', '{url}', undefined, {{}}, 'omit');");
    let anonymous = scene.browser.run(page, &script);
    assert_eq!(outcome(&anonymous), (Some(401), Some("CREDENTIALS_REQUIRED")), "it was the cookie");

    let csrf = scene.cookie_value("__Host-jetway_csrf");
    let refused = scene.store_card(page, &json!({}));
    assert_eq!(outcome(&refused), (Some(403), Some("CSRF_TOKEN_INVALID")));
    let refused = scene.store_card(page, &json!({ "x-jetway-csrf": "forged.forged" }));
    assert_eq!(outcome(&refused), (Some(403), Some("CSRF_TOKEN_INVALID")));
    assert_eq!(scene.cards(page), 0);
    let stored = scene.store_card(page, &json!({ "x-jetway-csrf": csrf }));
    assert_eq!(stored["status"], 200, "{stored}");
    assert_eq!(scene.cards(page), 1);
    csrf
}

fn is_closed_to_other_pages(scene: &mut Scene, page: &Tab, port: u16, csrf: &str) {
    let (same_site, cross_site) = (format!("http://localhost:{port}"), format!("http://127.0.0.1:{port}"));
    for other in [&same_site, &cross_site] {
        let other = &scene.browser.open(other);
        let seen = scene.get(other, "/api/v1/me");
        assert_eq!(outcome(&seen), (None, Some("TypeError")), "the browser keeps the answer from the page");
        // Even with a token that it cannot have.
        let seen = scene.store_card(other, &json!({ "x-jetway-csrf": csrf }));
        assert_eq!(outcome(&seen), (None, Some("TypeError")), "the pre-flight is refused");
    }
    // Its cookies go along, for it is the same site.
    let shown = scene.submit_form(&same_site, "/api/v1/paymentMethods");
    assert!(shown.contains("ORIGIN_NOT_ALLOWED"), "{shown}");
    let shown = scene.submit_form(&same_site, "/api/v1/auth/signout");
    assert!(shown.contains("ORIGIN_NOT_ALLOWED"), "{shown}");
    // They do not.
    let shown = scene.submit_form(&cross_site, "/api/v1/paymentMethods");
    assert!(shown.contains("CREDENTIALS_REQUIRED"), "{shown}");
    let shown = scene.submit_form(&cross_site, "/api/v1/auth/signout");
    assert!(shown.contains("reason"), "an error: {shown}");
    assert_eq!(scene.cards(page), 1, "the forms had no effect, and the session goes on");
}

fn is_bound_by_same_site_rules(scene: &mut Scene, listed_cross_site: &Tab, csrf: &str) {
    let seen = scene.get(listed_cross_site, "/api/v1/me");
    assert_eq!(outcome(&seen), (Some(401), Some("CREDENTIALS_REQUIRED")), "it may ask, without our cookies");
    let seen = scene.store_card(listed_cross_site, &json!({ "x-jetway-csrf": csrf }));
    assert_eq!(outcome(&seen), (Some(401), Some("CREDENTIALS_REQUIRED")));
    // Cookies that the browser would not keep are not given.
    let credentials = json!({ "email": "a@jetway.example", "password": "secret", "tokenDelivery": "COOKIE" });
    let seen = scene.post(listed_cross_site, "/api/v1/auth/signin", &credentials, &json!({}));
    assert_eq!(outcome(&seen), (Some(403), Some("ORIGIN_NOT_ALLOWED")));
}

fn refreshes(scene: &mut Scene, page: &Tab) -> String {
    let names = ["__Host-jetway_at", "__Host-jetway_rt", "__Host-jetway_csrf"];
    let before = names.map(|name| scene.cookie_value(name));
    let answer = scene.post(page, "/api/v1/auth/refresh", &json!({}), &json!({}));
    assert_eq!(answer["status"], 200, "{answer}");
    let after = names.map(|name| scene.cookie_value(name));
    for ((name, before), after) in names.iter().zip(&before).zip(&after) {
        assert_ne!(before, after, "{name} was not rotated");
    }
    let csrf = answer["csrf"].as_str().expect("pages of listed origins can read it");
    assert_eq!(csrf, after[2]);
    let stored = scene.store_card(page, &json!({ "x-jetway-csrf": csrf }));
    assert_eq!(stored["status"], 200, "{stored}");
    csrf.to_owned()
}

fn signs_out(scene: &mut Scene, page: &Tab, csrf: &str) {
    let answer = scene.post(page, "/api/v1/auth/signout", &json!({}), &json!({ "x-jetway-csrf": csrf }));
    assert_eq!(answer["status"], 200, "{answer}");
    let left: Vec<_> = scene.browser.cookies().into_iter().map(|cookie| cookie["name"].clone()).collect();
    assert_eq!(left, Vec::<Value>::new());
    assert_eq!(outcome(&scene.get(page, "/api/v1/me")), (Some(401), Some("CREDENTIALS_REQUIRED")));
    let refused = scene.post(page, "/api/v1/auth/refresh", &json!({}), &json!({}));
    assert_eq!(outcome(&refused), (Some(401), Some("REFRESH_INVALID")));
}

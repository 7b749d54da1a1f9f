//! `/admin/…` and `/invite`, without a browser.

use http::StatusCode;

use crate::support::{ADA, EVE, World};

/// The secret of the link that a page shows.
fn secret(page: &str) -> &str {
    let (_, rest) = page.split_once("/invite?token=").expect("a link");
    rest.split_once('<').expect("its end").0
}

#[tokio::test]
async fn who_is_no_administrator_finds_neither_the_pages_nor_the_way_to_them() {
    let world = World::new().await;
    let (ada, eve) = (world.browser().await, world.browser_of(EVE).await);
    for path in
        ["/admin", "/admin/people", "/admin/people/x", "/admin/people/0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11"]
    {
        let refused = world.get(path).session(&eve).send().await;
        assert_eq!((refused.status, refused.kind()), (StatusCode::FORBIDDEN, "text/html"), "{path}");
        assert!(!refused.text.contains(ADA), "{path}");
    }
    let profile = async |session: &str| world.get("/settings/profile").session(session).send().await.text;
    assert!(!profile(&eve).await.contains("Administration"));
    assert!(profile(&ada).await.contains("href=\"/admin/people\""));
    assert_eq!(world.get("/admin").session(&ada).send().await.header("location"), "/admin/people");
}

#[tokio::test]
async fn an_invitation_is_made_shown_once_and_taken_back() {
    let world = World::new().await;
    let session = world.browser().await;
    let made =
        world.post("/admin/people").session(&session).form("email=bob%40example.org&is_admin=1").send().await;
    assert_eq!(made.header("location"), "/admin/people");
    let made = world.follow(&session, &made).await;
    assert!(
        made.text.contains("bob@example.org is invited")
            && made.text.contains("http://relay.example/invite?")
    );
    let link = format!("/invite?token={}", secret(&made.text));
    let welcome = world.get(&link).send().await;
    assert!(
        welcome.text.contains("bob@example.org") && welcome.text.contains("You will be an administrator"),
        "{welcome}"
    );
    let later = world.get("/admin/people").session(&session).send().await;
    assert!(later.text.contains("Open invitations") && !later.text.contains("/invite?token="), "{later}");
    let invites = world.get("/api/admin/invites").session(&session).send().await.value();
    let path = format!("/admin/invites/{}/withdraw", invites[0]["invite_id"].as_str().expect("an id"));
    let back = world.post(&path).session(&session).form("").send().await;
    assert_eq!((back.status, back.header("location")), (StatusCode::SEE_OTHER, "/admin/people?withdrawn=1"));
    assert_eq!(world.get(&link).send().await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.post(&path).session(&session).form("").send().await.status, StatusCode::NOT_FOUND);
    let taken = world.post("/admin/people").session(&session).form("email=eve%40example.org").send().await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    assert!(
        taken.text.contains("role=\"alert\"") && taken.text.contains("value=\"eve@example.org\""),
        "{taken}"
    );
}

#[tokio::test]
async fn a_person_is_disabled_promoted_and_held_to_upstreams_by_forms() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token_of(EVE, "mcp api").await);
    let path = format!("/admin/people/{}", world.id_of(EVE).await);
    let post = async |form: &str| world.post(&path).session(&session).form(form).send().await;
    let submit = async |form: &str| world.follow(&session, &post(form).await).await;
    let take = async |verb: &str| {
        let path = format!("{path}/{verb}");
        let question = world.get(&path).session(&session).send().await;
        assert!(question.text.contains("on every node"), "{question}");
        world.follow(&session, &world.post(&path).session(&session).form("").send().await).await
    };
    let who = async || world.get("/api/user").bearer(&token).send().await;
    assert!(world.get(&path).session(&session).send().await.text.contains("Disable the account"));

    let disabled = take("disable").await;
    assert!(disabled.text.contains("The account is disabled."), "{disabled}");
    assert!(disabled.text.contains("Enable the account") && !disabled.text.contains("/disable\""));
    assert_eq!(who().await.status, StatusCode::UNAUTHORIZED);
    assert!(submit("change=enable").await.text.contains("role=\"status\""));
    submit("change=promote").await;
    assert_eq!(who().await.value()["user"]["is_admin"], true);
    assert!(take("demote").await.text.contains("is no longer an administrator"));
    assert_eq!(who().await.value()["user"]["is_admin"], false);

    let mcp = async || crate::mcp::initialize(world.post("/mcp/github")).bearer(&token).send().await.status;
    assert_eq!(mcp().await, StatusCode::OK);
    let none = submit("change=upstreams").await;
    assert!(none.text.contains("0 servers only"), "{none}");
    assert_eq!(mcp().await, StatusCode::NOT_FOUND);
    submit("change=upstreams&upstream=github").await;
    assert_eq!(mcp().await, StatusCode::OK);
    assert!(!submit("change=all-upstreams").await.text.contains("servers only"));
    // What takes power away goes by its question alone.
    for wrong in ["change=delete", "change=disable", "change=demote", "", "change=upstreams&upstream=N%20O"] {
        assert_eq!(post(wrong).await.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(who().await.status, StatusCode::OK);
    let claimed = world.get(&format!("{path}?done=disable")).session(&session).send().await;
    assert!(!claimed.text.contains("role=\"status\""), "a link says nothing that is not so: {claimed}");
}

#[tokio::test]
async fn what_takes_power_away_says_how_much_it_ends_and_looking_ends_nothing() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token_of(EVE, "mcp api").await);
    world.token_of(EVE, "api").await;
    crate::mcp::open_session(&world, "/mcp", &token).await;
    // Another's is not counted.
    crate::mcp::open_session(&world, "/mcp", &world.token("mcp").await).await;
    let path = format!("/admin/people/{}", world.id_of(EVE).await);
    let disable = world.get(&format!("{path}/disable")).session(&session).send().await;
    for part in [
        "Disable the account of eve@example.org?",
        "Its 2 active tokens</strong> are refused",
        "1 session</strong> is open on this node",
        "enabling the account makes its tokens work again",
    ] {
        assert!(disable.text.contains(part), "{part} in {disable}");
    }
    assert!(!disable.text.contains("your own account"), "{disable}");
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
    // She has no role to take.
    let none = world.get(&format!("{path}/demote")).session(&session).send().await;
    assert_eq!((none.status, none.header("location")), (StatusCode::SEE_OTHER, &*path));
    for gone in ["/admin/people/x/disable", "/admin/people/0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11/demote"] {
        for call in [world.get(gone), world.post(gone).form("")] {
            let answer = call.session(&session).send().await;
            assert_eq!((answer.status, answer.kind()), (StatusCode::NOT_FOUND, "text/html"), "{gone}");
        }
    }
}

#[tokio::test]
async fn the_last_administrator_is_told_why_the_role_stays() {
    let world = World::new().await;
    let session = world.browser().await;
    let path = format!("/admin/people/{}", world.id_of(ADA).await);
    for verb in ["demote", "disable"] {
        let path = format!("{path}/{verb}");
        let question = world.get(&path).session(&session).send().await;
        assert!(question.text.contains("This is your own account"), "{question}");
        let refused = world.post(&path).session(&session).form("").send().await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{verb}");
        assert!(refused.text.contains("Make another account an administrator first"), "{refused}");
    }
}

#[tokio::test]
async fn who_takes_it_from_themselves_is_led_to_where_they_still_may_be() {
    let world = World::new().await;
    let (ada, eve) = (world.browser().await, world.browser_of(EVE).await);
    let path = async |email: &str| format!("/admin/people/{}", world.id_of(email).await);
    let promote = world.post(&path(EVE).await).session(&ada).form("change=promote").send().await;
    assert!(world.follow(&ada, &promote).await.text.contains("is now an administrator"));
    let demoted = world.post(&format!("{}/demote", path(ADA).await)).session(&ada).form("").send().await;
    let page = world.follow(&ada, &demoted).await;
    assert!(page.status == StatusCode::OK && !page.text.contains("Administration"), "{page}");
    let promote = world.post(&path(ADA).await).session(&eve).form("change=promote").send().await;
    world.follow(&eve, &promote).await;
    let disabled = world.post(&format!("{}/disable", path(EVE).await)).session(&eve).form("").send().await;
    assert_eq!(disabled.header("location"), "/login");
    assert_eq!(world.get("/api/user").session(&eve).send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.get("/api/user").session(&ada).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn people_are_searched_for_and_hostile_text_stays_text() {
    let world = World::new().await;
    let session = world.browser().await;
    let found = world.get("/admin/people?email=EVE").session(&session).send().await;
    assert!(found.text.contains(EVE) && !found.text.contains(&format!(">{ADA}</a>")), "{found}");
    let none = world.get("/admin/people?email=%22%3E%3Cb%3E").session(&session).send().await;
    assert!(none.text.contains("No results.") && !none.text.contains("<b>"), "{none}");
    let wrong = world.get("/admin/people?after=x").session(&session).send().await;
    assert_eq!((wrong.status, wrong.kind()), (StatusCode::BAD_REQUEST, "text/html"));
}

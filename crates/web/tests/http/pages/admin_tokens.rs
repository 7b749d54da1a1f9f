//! `/admin/tokens`, without a browser.

use http::StatusCode;
use trustrelay_authority::{Expiry, Issued, NewPat};

use crate::support::{ADA, Answer, EVE, World};

async fn page(world: &World, session: &str, path: &str) -> Answer {
    let answer = world.get(path).session(session).send().await;
    assert_eq!((answer.status, answer.kind()), (StatusCode::OK, "text/html"), "{path}: {answer}");
    answer
}

async fn stands(world: &World, token: &Issued) -> bool {
    world.get("/api/user").bearer(token).send().await.status == StatusCode::OK
}

async fn named(world: &World, email: &str, name: &str) -> Issued {
    let new =
        NewPat { name: name.into(), scope: "mcp api".into(), expiry: Expiry::Default, ..NewPat::default() };
    let issued = world.authority.issue_for(email, new).await.expect("issued");
    world.keep_secret(issued.token.expose());
    issued
}

/// Where the first link or form leads whose tag holds `mark`.
fn way(page: &Answer, mark: &str) -> String {
    let tag = page.text.split('<').find(|tag| tag.contains(mark)).unwrap_or_else(|| panic!("{mark}: {page}"));
    let (_, rest) = tag.split_once("href=\"").or_else(|| tag.split_once("action=\"")).expect("an address");
    rest.split('"').next().expect("its end").replace("&amp;", "&")
}

/// The names on a page, in their order.
fn names(page: &Answer) -> Vec<&str> {
    let rows = page.text.split("class=\"name\"").skip(1);
    rows.map(|row| row.split(['>', '<']).nth(1).expect("a name")).collect()
}

#[tokio::test]
async fn tokens_are_found_with_their_owners_and_what_has_become_of_them() {
    let world = World::new().await;
    let session = world.browser().await;
    named(&world, EVE, "laptop").await;
    let over = named(&world, EVE, "old-ci").await;
    named(&world, ADA, "ci-<b>").await;
    world.authority.revoke_any(over.record.pat_id).await.expect("revoked");
    let all = page(&world, &session, "/admin/tokens?state=any").await;
    assert_eq!(names(&all), ["ci-&lt;b&gt;", "old-ci", "laptop"]);
    assert!(all.text.contains(">revoked<") && !all.text.contains("<b>"), "{all}");
    assert!(!all.text.contains("Revoke old-ci of"), "{all}");
    let active = page(&world, &session, "/admin/tokens").await;
    let soonest_first = ["laptop", "ci-&lt;b&gt;"];
    assert_eq!(names(&active), soonest_first, "who looks for tokens looks for those that work");
    for (query, found) in [
        ("owner=eve%40", vec!["laptop"]),
        ("owner=eve%40&state=any", vec!["old-ci", "laptop"]),
        ("name=OLD&state=revoked", vec!["old-ci"]),
        ("state=expired", vec![]),
        (&format!("hint={}", over.record.hint), vec![]),
        (&format!("hint=+{}+&state=any", over.record.hint.replace("...", "")), vec!["old-ci"]),
        ("expires_before=2126-04-08", vec![]),
        ("unused_since=2126-04-08&name=l", vec!["laptop"]),
        (&format!("owner={}", world.id_of(EVE).await), vec!["laptop"]),
    ] {
        let shown = page(&world, &session, &format!("/admin/tokens?{query}")).await;
        assert_eq!(names(&shown), found, "{query}");
        assert_eq!(shown.text.contains("No results."), found.is_empty(), "{query}");
    }
    named(&world, EVE, "laptop-2").await;
    for (query, order) in [
        ("", "expiring soonest first"),
        ("state=any", "newest first"),
        ("name=l&state=any", "by name"),
        ("unused_since=2126-04-08", "unused longest first"),
    ] {
        let shown = page(&world, &session, &format!("/admin/tokens?{query}")).await;
        assert!(shown.text.contains(&format!("Sort order: {order}.")), "{query}: {shown}");
    }
    let one = page(&world, &session, "/admin/tokens?state=revoked").await;
    assert!(!one.text.contains("Sort order"), "one token has no order: {one}");
    for wrong in ["onwer=eve", "state=dead", "hint=...", "expires_before=soon", "after=x"] {
        let refused = world.get(&format!("/admin/tokens?{wrong}")).session(&session).send().await;
        assert_eq!((refused.status, refused.kind()), (StatusCode::BAD_REQUEST, "text/html"), "{wrong}");
    }
}

#[tokio::test]
async fn links_lead_through_the_pages_and_back_and_keep_the_search() {
    let world = World::new().await;
    let session = world.browser().await;
    for number in 0..60 {
        named(&world, EVE, &format!("ci-{number:02}")).await;
    }
    named(&world, EVE, "other").await;
    let first = page(&world, &session, "/admin/tokens?name=ci-").await;
    assert!(first.text.contains("<span class=\"count\">60</span>") && !first.text.contains("rel=\"prev\""));
    let second = page(&world, &session, &way(&first, "rel=\"next\"")).await;
    let third = page(&world, &session, &way(&second, "rel=\"next\"")).await;
    assert_eq!([&first, &second, &third].map(|page| names(page).len()), [25, 25, 10]);
    assert!(!third.text.contains("rel=\"next\"") && !third.text.contains(">other<"), "{third}");
    let back = page(&world, &session, &way(&third, "rel=\"prev\"")).await;
    assert_eq!(names(&back), names(&second));
    let back = page(&world, &session, &way(&back, "rel=\"prev\"")).await;
    assert_eq!(names(&back), names(&first));
    assert!(!back.text.contains("rel=\"prev\""));
}

#[tokio::test]
async fn one_is_revoked_after_a_question_and_the_search_is_kept() {
    let world = World::new().await;
    let session = world.browser().await;
    let (token, other) = (named(&world, EVE, "laptop").await, named(&world, EVE, "desk").await);
    let list = page(&world, &session, "/admin/tokens?owner=eve%40").await;
    let question = page(&world, &session, &way(&list, "Revoke laptop of eve")).await;
    assert!(question.text.contains("of eve@example.org?") && stands(&world, &token).await, "{question}");
    let done = world.post(&way(&question, "action=\"/admin/tokens")).session(&session).form("").send().await;
    assert_eq!(
        (done.status, done.header("location")),
        (StatusCode::SEE_OTHER, "/admin/tokens?owner=eve%40&revoked=1")
    );
    assert!(!stands(&world, &token).await && stands(&world, &other).await);
    let list = page(&world, &session, done.header("location")).await;
    assert!(list.text.contains("The token is revoked.") && names(&list) == ["desk"], "{list}");
    let gone = world.get("/admin/tokens/0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11/revoke").session(&session);
    assert_eq!(gone.send().await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn all_that_fit_are_revoked_when_their_number_is_said() {
    let world = World::new().await;
    let session = world.browser().await;
    let eves = [named(&world, EVE, "ci-1").await, named(&world, EVE, "ci-2").await];
    let mine = named(&world, ADA, "ci-3").await;
    let list = page(&world, &session, "/admin/tokens?owner=eve%40").await;
    let question = page(&world, &session, &way(&list, "/admin/tokens/revoke")).await;
    assert!(question.text.contains("2 active tokens") && question.text.contains(">ci-1<"), "{question}");
    assert!(!question.text.contains("of your own") && !question.text.contains("value=\"2\""), "{question}");
    let form = way(&question, "action=\"/admin/tokens");
    let submit = async |number: &str| {
        world.post(&form).session(&session).form(&format!("expected={number}")).send().await
    };
    for (number, status, says) in [
        ("", 400, "Number of tokens must be a number"),
        ("all", 400, "Number of tokens must be a number"),
        ("1", 409, "matches 2 tokens, not 1. Nothing was revoked"),
        ("3", 409, "matches 2 tokens, not 3. Nothing was revoked"),
        ("2000", 400, "at most 1000 tokens can be revoked"),
    ] {
        let refused = submit(number).await;
        assert_eq!((refused.status.as_u16(), refused.kind()), (status, "text/html"), "{number}");
        assert!(refused.text.contains(says) && refused.text.contains("role=\"alert\""), "{refused}");
    }
    let late = named(&world, EVE, "ci-4").await;
    let refused = submit("2").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text.contains("matches 3 tokens, not 2") && refused.text.contains("<strong>3</strong>"));
    assert!(stands(&world, &eves[0]).await && stands(&world, &late).await, "nothing was revoked");
    let done = submit("3").await;
    assert_eq!(done.header("location"), "/admin/tokens?owner=eve%40&revoked=3");
    let list = page(&world, &session, done.header("location")).await;
    assert!(list.text.contains("3 tokens are revoked"), "{list}");
    for token in eves.iter().chain([&late]) {
        assert!(!stands(&world, token).await);
    }
    assert!(stands(&world, &mine).await);
    let none = page(&world, &session, "/admin/tokens/revoke?owner=eve%40").await;
    assert!(none.text.contains("No tokens match") && !none.text.contains("name=\"expected\""), "{none}");
}

#[tokio::test]
async fn a_search_that_says_nothing_does_not_lead_to_everybody_s_tokens() {
    let world = World::new().await;
    let session = world.browser().await;
    let token = named(&world, EVE, "ci").await;
    for open in
        ["", "?state=active", "?state=any", "?owner=&name=+&expires_before=&unused_since=", "?owner=+"]
    {
        let list = page(&world, &session, &format!("/admin/tokens{open}")).await;
        assert!(!list.text.contains("/admin/tokens/revoke"), "{open}: {list}");
        let path = format!("/admin/tokens/revoke{open}");
        let asked = world.get(&path).session(&session).send().await;
        assert_eq!(asked.status, StatusCode::BAD_REQUEST, "{open}");
        assert!(asked.text.contains("This would revoke all tokens"), "{asked}");
        let sent = world.post(&path).session(&session).form("expected=1").send().await;
        assert_eq!(sent.status, StatusCode::BAD_REQUEST, "{open}");
    }
    // What narrows by a slip of the pen is none, and not everything.
    for wrong in ["?ownr=eve%40", "?owner=eve%40&state=dead", "?state=revoked&owner=eve%40"] {
        let sent = world.post(&format!("/admin/tokens/revoke{wrong}")).session(&session).form("expected=1");
        assert_eq!(sent.send().await.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert!(stands(&world, &token).await);
}

#[tokio::test]
async fn the_question_says_if_ones_own_are_among_them_and_counts_only_what_works() {
    let world = World::new().await;
    let session = world.browser().await;
    let (mine, eves) = (named(&world, ADA, "ci-1").await, named(&world, EVE, "ci-2").await);
    let over = named(&world, EVE, "ci-3").await;
    world.authority.revoke_any(over.record.pat_id).await.expect("revoked");
    let question = page(&world, &session, "/admin/tokens/revoke?name=ci-&state=any").await;
    assert!(question.text.contains("2 active tokens") && question.text.contains("1 token of your own"));
    let sent = world.post("/admin/tokens/revoke?name=ci-&state=any").session(&session).form("expected=2");
    assert_eq!(sent.send().await.header("location"), "/admin/tokens?name=ci-&state=any&revoked=2");
    assert!(!stands(&world, &mine).await && !stands(&world, &eves).await);
}

#[tokio::test]
async fn a_person_s_page_leads_to_their_tokens_and_to_their_end() {
    let world = World::new().await;
    let session = world.browser().await;
    let user_id = world.id_of(EVE).await;
    let path = format!("/admin/people/{user_id}");
    assert!(!page(&world, &session, &path).await.text.contains("/admin/tokens?"));
    let tokens = [named(&world, EVE, "ci-1").await, named(&world, EVE, "ci-2").await];
    let mine = named(&world, ADA, "ci-3").await;
    let person = page(&world, &session, &path).await;
    assert!(person.text.contains("Revoke all 2 tokens"), "{person}");
    let list = page(&world, &session, &way(&person, "/admin/tokens?")).await;
    assert_eq!(names(&list), ["ci-2", "ci-1"]);
    assert!(list.text.contains("value=\"eve@example.org\" readonly"), "{list}");
    let question = page(&world, &session, &way(&person, "/admin/tokens/revoke")).await;
    assert!(question.text.contains("Revoke all active tokens of eve@example.org?"), "{question}");
    let sent = world.post(&way(&question, "action=\"/admin/tokens")).session(&session);
    let done = sent.form("expected=2").send().await;
    assert_eq!(done.header("location"), format!("/admin/tokens?owner={user_id}&revoked=2"));
    assert!(!stands(&world, &tokens[0]).await && !stands(&world, &tokens[1]).await);
    assert!(stands(&world, &mine).await);
}

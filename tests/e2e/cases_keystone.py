"""Who may: real tokens of a real keystone, a real glance-api's policy, two projects. Never weaker than glance-api itself."""

import concurrent.futures
import uuid

from harness import call, download, expect, expect_equal, until

# `rig.secure` is secure.Secure: member and reader are in project-a, other in project-b; images of fresh() are member's, private.

MANAGEMENT = [("GET", "/v2/cache"), ("PUT", "/v2/cache/{id}"), ("DELETE", "/v2/cache/{id}"), ("DELETE", "/v2/cache"),
              ("GET", "/v2/cached_images"), ("DELETE", "/v2/cached_images/{id}"), ("DELETE", "/v2/cached_images"),
              ("GET", "/v2/queued_images"), ("PUT", "/v2/queued_images/{id}"), ("DELETE", "/v2/queued_images/{id}"),
              ("DELETE", "/v2/queued_images")]


def _refused_as_by_glance(secure, image_id, user, status, when):
    """The answer to `user` is glance's own, without a byte of the image."""
    token = secure.token(user)
    ours = call("GET", secure.daemon.file_url(image_id), token=token)
    theirs = call("GET", f"{secure.glance.url}/v2/images/{image_id}/file", token=token)
    expect_equal((theirs.status, ours.status), (status, status), f"{user}'s download {when}, the status (glance's, ours)")
    expect_equal(ours.body, theirs.body, f"{user}'s refusal {when}")
    part = call("GET", secure.daemon.file_url(image_id), headers={"Range": "bytes=0-99"}, token=token)
    expect_equal(part.status, status, f"the status of {user}'s range {when}")


def _reader_of_a_held_fill(secure, image_id, work, after_bytes=1 << 20):
    """Runs `work` while member is in the middle of the first download of this image; that download must be whole."""
    with concurrent.futures.ThreadPoolExecutor() as pool, secure.proxy.held(image_id, after_bytes):
        member = pool.submit(secure.read, image_id, "member")
        until(lambda: secure.proxy.bytes_of(image_id) >= after_bytes or member.done(), "the fill's first bytes")
        expect(not member.done(), f"the download ended before it was let go: {member.done() and member.result()[:2]}")
        work()
        secure.proxy.release(image_id)
        expect_equal(member.result(), secure.whole(), "member's download (status, length, sha512)")


def another_project_gets_404_on_miss_collapse_and_hit(rig):
    secure = rig.secure
    image_id = secure.fresh("private")
    _refused_as_by_glance(secure, image_id, "other", 404, "on a miss")
    expect_equal(secure.proxy.bytes_of(image_id), 0, "what left the origin for somebody without the right")
    _reader_of_a_held_fill(secure, image_id, lambda: _refused_as_by_glance(secure, image_id, "other", 404, "during a fill"))
    _refused_as_by_glance(secure, image_id, "other", 404, "on a hit")
    expect_equal(secure.read(image_id, "member"), secure.whole(), "member's hit (status, length, sha512)")
    expect_equal(secure.proxy.bytes_of(image_id), secure.whole()[1], "what left the origin")


def a_shared_image_is_for_its_members(rig):
    secure = rig.secure
    image_id, project_b = secure.fresh("shared", visibility="shared"), secure.keystone.ids["projects"]["project-b"]
    expect_equal(secure.read(image_id, "member"), secure.whole(), "the owner's download")
    expect_equal(secure.read(image_id, "other")[0], 404, "the status for one who is no member yet")
    members = f"{secure.daemon.image_url}/v2/images/{image_id}/members"
    added = call("POST", members, {"member": project_b}, token=secure.token("member"))
    expect_equal(added.status, 200, f"the status of adding a member ({added.body[:200]!r})")
    expect_equal(secure.read(image_id, "other"), secure.whole(), "a member's download")
    expect_equal(call("DELETE", f"{members}/{project_b}", token=secure.token("member")).status, 204, "the member's removal, its status")
    expect_equal(secure.read(image_id, "other")[0], 404, "the status for one who is no member any more")
    expect_equal(secure.proxy.bytes_of(image_id), secure.whole()[1], "what left the origin")


def expired_revoked_unknown_and_absent_tokens_are_401(rig):
    secure = rig.secure
    cold, warm = secure.fresh("cold"), secure.fresh("warm")
    secure.keep(warm)
    good, revoked = secure.token("member"), secure.keystone.token("member")
    secure.keystone.revoke(revoked)
    bad = {"an expired": secure.keystone.ending(good, -60), "a revoked": revoked, "an unknown": "0" * 32, "no": None}
    for name, token in bad.items():
        for image_id, where in ((cold, "a miss"), (warm, "a hit")):
            answer = call("GET", secure.daemon.file_url(image_id), token=token)
            expect_equal(answer.status, 401, f"the status for {name} token on {where}")
            expect(len(answer.body) < 1024, f"{len(answer.body)} bytes came with a 401")
            theirs = call("GET", f"{secure.glance.url}/v2/images/{image_id}/file", token=token)
            expect_equal(answer.headers["WWW-Authenticate"], theirs.headers["WWW-Authenticate"], "WWW-Authenticate")
    expect_equal(secure.proxy.bytes_of(cold), 0, "what left the origin")
    expect_equal(secure.read(warm, token=good), secure.whole(), "the download with the token that is still good")


def management_asks_for_a_token_and_an_admin(rig):
    secure = rig.secure
    image_id = secure.fresh("managed")
    secure.keep(image_id)
    member, reader = secure.token("member"), secure.token("reader")
    expired = secure.keystone.ending(secure.token("admin"), -60)
    for method, path in MANAGEMENT:
        url, what = secure.daemon.image_url + path.format(id=image_id), f"{method} {path}"
        for token in (None, "0" * 32, expired):
            answer = call(method, url, token=token)
            expect_equal(answer.status, 401, f"the status of {what} without a good token")
            expect_equal(answer.headers["WWW-Authenticate"], f'Keystone uri="{secure.keystone.url}"', f"{what}'s WWW-Authenticate")
        expect_equal([call(method, url, token=token).status for token in (member, reader)], [403, 403],
                     f"the status of {what} for member and reader")
    expect(image_id in secure.cached(), "somebody who must not has removed the image from the cache")
    for path in ("/v2/cache", "/v2/cached_images", "/v2/queued_images"):
        expect_equal(secure.manage("GET", path).status, 200, f"the status of an admin's GET {path}")


def _download_image_is_stricter(secure, name):
    image_id = secure.fresh(name)

    def refused(when):
        shown = call("GET", f"{secure.daemon.image_url}/v2/images/{image_id}", token=secure.token("reader"))
        expect_equal(shown.status, 200, f"the status of the reader's metadata {when}")
        _refused_as_by_glance(secure, image_id, "reader", 403, when)

    refused("on a miss")
    expect_equal(secure.proxy.tokens_of(image_id), [], "the tokens with which bytes were fetched for a reader without the right")
    _reader_of_a_held_fill(secure, image_id, lambda: refused("during a fill"))
    refused("on a hit")
    expect_equal(secure.read(image_id, "member"), secure.whole(), "member's hit (status, length, sha512)")
    expect_equal(secure.proxy.bytes_of(image_id), secure.whole()[1], "what left the origin")


def a_download_policy_stricter_than_get_holds_on_miss_and_hit(rig):
    _download_image_is_stricter(rig.secure, "strict")


def a_download_policy_holds_on_a_store_without_ranges(rig):
    secure = rig.secure
    secure.restart_glance(norange=True)
    try:
        _download_image_is_stricter(secure, "strict-norange")
    finally:
        secure.restart_glance()


def a_deactivated_image_is_403_for_members_and_not_cached_for_admins(rig):
    secure = rig.secure
    cold, warm = secure.fresh("deactivated-cold"), secure.fresh("deactivated-warm")
    secure.keep(warm)
    admin = secure.token("admin")
    for image_id in (cold, warm):
        done = call("POST", f"{secure.daemon.image_url}/v2/images/{image_id}/actions/deactivate", token=admin)
        expect_equal(done.status, 204, "the status of deactivate")
    for image_id, where in ((cold, "not cached"), (warm, "cached")):
        _refused_as_by_glance(secure, image_id, "member", 403, f"of a deactivated image, {where}")
        expect_equal(secure.read(image_id, token=admin), secure.whole(), f"admin's download, {where}")
    expect(cold not in secure.cached(), "an admin's download of a deactivated image filled the cache")
    for image_id in (cold, warm):
        done = call("POST", f"{secure.daemon.image_url}/v2/images/{image_id}/actions/reactivate", token=admin)
        expect_equal(done.status, 204, "the status of reactivate")
        expect_equal(secure.read(image_id, "member"), secure.whole(), "member's download after reactivate")


def a_deleted_image_leaves_the_cache_at_once(rig):
    secure = rig.secure
    image_id = secure.fresh("deleted")
    secure.keep(image_id)
    foreign = call("DELETE", f"{secure.daemon.image_url}/v2/images/{image_id}", token=secure.token("other"))
    expect_equal(foreign.status, 404, "the status of another project's DELETE")
    expect(secure.cache_file(image_id).exists(), "a DELETE that was refused removed the image from the cache")
    gone = call("DELETE", f"{secure.daemon.image_url}/v2/images/{image_id}", token=secure.token("member"))
    expect_equal(gone.status, 204, "the status of DELETE")
    expect(not secure.cache_file(image_id).exists(), "the deleted image's file is still in the cache")
    expect(image_id not in secure.cached(), "the deleted image is still listed")
    for user in ("member", "admin"):
        expect_equal(secure.read(image_id, user)[0], 404, f"the status for {user} after DELETE")


def a_delete_during_a_fill_leaves_nothing_behind(rig):
    secure = rig.secure
    image_id, size = secure.fresh("deleted-filling"), secure.whole()[1]
    with concurrent.futures.ThreadPoolExecutor() as pool, secure.proxy.held(image_id, size // 2):
        reader = pool.submit(_outcome, secure, image_id)
        until(lambda: secure.proxy.bytes_of(image_id) >= size // 2, "half of the fill")
        gone = call("DELETE", f"{secure.daemon.image_url}/v2/images/{image_id}", token=secure.token("member"))
        expect_equal(gone.status, 204, "the status of DELETE during a fill")
        secure.proxy.release(image_id)
        outcome = reader.result()
    expect(outcome in (secure.whole(), "broken off"), f"the reader of the fill got {outcome[:2]}")
    expect_equal(secure.read(image_id, "member")[0], 404, "the status after DELETE")
    directory = secure.cache_file(image_id).parent
    until(lambda: not [path for path in directory.rglob("*") if path.name.startswith(image_id)], "the end of the image's files", 20)
    expect(image_id not in secure.cached(), "the deleted image is listed")


def _outcome(secure, image_id):
    """The download's (status, length, sha512), or "broken off": never fewer bytes that look whole."""
    import http.client
    try:
        return secure.read(image_id, "member")
    except (OSError, http.client.HTTPException):
        return "broken off"


def a_prefetch_outlives_the_token_of_who_asked(rig):
    secure = rig.secure
    image_id, token = secure.fresh("prefetched"), secure.keystone.token("admin")
    with secure.proxy.held(image_id):
        expect_equal(secure.manage("PUT", f"/v2/cache/{image_id}", token=token).status, 202, "the status of PUT /v2/cache/{id}")
        secure.keystone.revoke(token)
        secure.proxy.release(image_id)
        until(lambda: image_id in secure.cached(), "the prefetch")
    expect(token not in secure.proxy.tokens_of(image_id), "the bytes were fetched with the token of the admin who asked")
    expect_equal(secure.read(image_id, "member"), secure.whole(), "member's download (status, length, sha512)")
    for user, status in (("other", 404), ("reader", 403)):
        _refused_as_by_glance(secure, image_id, user, status, "of a prefetched image")
    expect_equal(secure.proxy.bytes_of(image_id), secure.whole()[1], "what left the origin")
    for image_id, status in ((uuid.uuid4(), 404), (secure.fresh("no-such-store"), 202)):
        expect_equal(secure.manage("PUT", f"/v2/cache/{image_id}").status, status, "the status of PUT /v2/cache/{id}")


def a_fill_outlives_its_readers_token(rig):
    secure = rig.secure
    image_id, size = secure.fresh("outlived"), secure.whole()[1]
    token = secure.keystone.token("member")
    # The first transfer breaks in the middle; by then its token is no good any more.
    secure.proxy.cut(image_id, size // 2)
    with concurrent.futures.ThreadPoolExecutor() as pool, secure.proxy.held(image_id, size // 4):
        reader = pool.submit(secure.read, image_id, token=token)
        until(lambda: secure.proxy.bytes_of(image_id) >= size // 4, "a quarter of the fill")
        secure.keystone.revoke(token)
        secure.proxy.release(image_id)
        expect_equal(reader.result(), secure.whole(), "the download whose token was revoked in the middle")
    used = secure.proxy.tokens_of(image_id)
    expect_equal((len(used), used[0] == token, token in used[1:]), (2, True, False),
                 "the fill's transfers (how many, the first with the reader's token, a later one with it)")
    expect_equal(secure.read(image_id, token=token)[0], 401, "the status of the next download with the revoked token")
    expect_equal(secure.read(image_id, "other")[0], 404, "the status for another project")
    expect_equal(secure.read(image_id, "member"), secure.whole(), "member's hit (status, length, sha512)")
    expect_equal(secure.proxy.bytes_of(image_id), size, "what left the origin")


def an_expired_token_beside_a_good_service_token_is_glances_to_judge(rig):
    """nova and cinder send X-Service-Token so that a user's token may end during their work."""
    secure = rig.secure
    image_id = secure.fresh("service-token")
    secure.keep(image_id)
    expired = secure.keystone.ending(secure.token("member"), -60)
    url = f"/v2/images/{image_id}/file"
    for service, status in ((secure.token("imagecache"), 200), (secure.token("other"), 401)):
        headers = {"X-Service-Token": service}
        theirs = download(secure.glance.url + url, headers, token=expired)
        ours = download(secure.daemon.image_url + url, headers, token=expired)
        expect_equal((theirs[0], ours[0]), (status, status), "the status with a service token (glance's, ours)")
        if status == 200:
            expect_equal(ours, secure.whole(), "the download (status, length, sha512)")


CASES = [another_project_gets_404_on_miss_collapse_and_hit, a_shared_image_is_for_its_members,
         expired_revoked_unknown_and_absent_tokens_are_401, management_asks_for_a_token_and_an_admin,
         a_download_policy_stricter_than_get_holds_on_miss_and_hit, a_download_policy_holds_on_a_store_without_ranges,
         a_deactivated_image_is_403_for_members_and_not_cached_for_admins, a_deleted_image_leaves_the_cache_at_once,
         a_delete_during_a_fill_leaves_nothing_behind, a_prefetch_outlives_the_token_of_who_asked,
         a_fill_outlives_its_readers_token, an_expired_token_beside_a_good_service_token_is_glances_to_judge]

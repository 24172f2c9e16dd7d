"""The operator's command line beside a real keystone: who asks, of which project, and what a person is told who may not."""

import contextlib
import json
import uuid

from harness import call, expect, expect_equal, try_client, until

# `rig.secure` is secure.Secure: member is in project-a, other in project-b. No case here sets OS_PROJECT_ID unless it says so.


def _run(secure, environment, *arguments, config=True):
    return try_client([secure.binary, *arguments, *(secure.daemon.config_arguments if config else [])], environment)


def _json(secure, environment, *arguments, config=True):
    done = _run(secure, environment, *arguments, "-f", "json", config=config)
    expect_equal((done.returncode, done.stderr), (0, ""), f"exit code and standard error of {' '.join(arguments)}")
    return json.loads(done.stdout)


def _refused(secure, environment, arguments, *words, config=True):
    """The command fails with one line, which has these words."""
    done = _run(secure, environment, *arguments, config=config)
    expect_equal((done.returncode, done.stdout), (1, ""), f"exit code and output of {' '.join(arguments)} ({done.stderr!r})")
    expect_equal(len(done.stderr.splitlines()), 1, f"the number of lines of {done.stderr!r}")
    for word in words:
        expect(word in done.stderr, f"{' '.join(arguments)} said {done.stderr!r}, and nothing of {word!r}")


def _volumes(secure, project):
    return f"{secure.daemon.volume_root}/v3/{project}/volumes"


@contextlib.contextmanager
def _volume_of(secure, user):
    """An empty volume in the user's project, made by the command line; its id."""
    project = secure.keystone.ids["projects"][secure.keystone.PROJECTS[user]]
    made = _json(secure, secure.keystone.client(user), "volumes", "create", "--size", "1", "--wait")
    expect_equal(made["status"], "available", "the new volume's status")
    try:
        yield made["id"]
    finally:
        url = f"{_volumes(secure, project)}/{made['id']}"
        call("DELETE", url, token=secure.token(user))
        until(lambda: call("GET", url, token=secure.token(user)).status == 404, "the volume's end")


@contextlib.contextmanager
def _application_credential(secure, user):
    """The variables of one who has nothing but an application credential: it says of which project it is, they do not."""
    url = f"{secure.keystone.url}/v3/users/{secure.keystone.ids['users'][user]}/application_credentials"
    asked = {"application_credential": {"name": uuid.uuid4().hex}}
    answer = call("POST", url, asked, token=secure.token(user))
    expect_equal(answer.status, 201, "the status of a new application credential")
    made = answer.json()["application_credential"]
    try:
        yield {"OS_AUTH_URL": secure.keystone.url, "OS_AUTH_TYPE": "v3applicationcredential",
               "OS_APPLICATION_CREDENTIAL_ID": made["id"], "OS_APPLICATION_CREDENTIAL_SECRET": made["secret"]}
    finally:
        call("DELETE", f"{url}/{made['id']}", token=secure.token(user))


def a_commands_project_is_that_of_the_account(rig):
    secure = rig.secure
    keystone, url = secure.keystone, secure.daemon.volume_root
    with _volume_of(secure, "member") as volume_id, _application_credential(secure, "member") as credential:
        for user, ids in (("member", [volume_id]), ("other", []), ("admin", [])):
            project = keystone.ids["projects"][keystone.PROJECTS[user]]
            token, somewhere = {"OS_TOKEN": secure.token(user)}, ["--url", url]
            plain = call("GET", f"{url}/v3/{project}/os-quota-sets/{project}?usage=True", token=secure.token(user))
            expect_equal(plain.status, 200, f"the status of {user}'s GET os-quota-sets")
            ways = {"a password": (keystone.client(user), []), "a token": (token, []),
                    "a password, with no configuration": (keystone.client(user), somewhere),
                    "a token and OS_AUTH_URL, with no configuration": ({**token, "OS_AUTH_URL": keystone.url}, somewhere)}
            if user == "member":
                ways["an application credential"] = (credential, [])
            else:   # each way once, and each of them as somebody
                ways = {way: ways[way] for way in ("a password", "a token")}
            for way, (environment, more) in ways.items():
                quota = _json(secure, environment, "quota", "show", *more, config=not more)
                expect_equal(quota, plain.json()["quota_set"], f"{user}'s `quota show` with {way}")
                expect_equal(quota["volumes"]["in_use"], len(ids), f"{user}'s volumes in use with {way}")
                listed = _json(secure, environment, "volumes", "list", *more, config=not more)
                expect_equal([volume["id"] for volume in listed], ids, f"{user}'s `volumes list` with {way}")
            said = keystone.ids["projects"]["project-b" if user != "other" else "project-a"]
            _refused(secure, {**token, "OS_PROJECT_ID": said}, ["volumes", "list"], said, "OS_PROJECT_ID")
        # Whoever runs it on the service's host without any variables is the service.
        service = _json(secure, {}, "quota", "show")
        expect_equal(service["id"], keystone.ids["projects"]["service"], "the project of `quota show` on the service's account")
        everybodys = _json(secure, {}, "volumes", "list", "--all-projects")
        expect(volume_id in [volume["id"] for volume in everybodys], "the service's list of all projects is without member's volume")


def a_member_sees_its_own_and_an_admin_the_image_volumes(rig):
    secure = rig.secure
    member, other, admin = (secure.keystone.client(user) for user in ("member", "other", "admin"))
    project_b = secure.keystone.ids["projects"]["project-b"]
    with _volume_of(secure, "member") as mine, _volume_of(secure, "other") as theirs:
        expect_equal([v["id"] for v in _json(secure, member, "volumes", "list", "--all-projects")], [mine],
                     "what --all-projects shows a member")
        expect_equal(_json(secure, other, "volumes", "show", theirs)["id"], theirs, "the id of other's own volume")
        _refused(secure, member, ["volumes", "show", theirs], theirs, "HTTP 404")
        _refused(secure, member, ["volumes", "delete", theirs], theirs, "HTTP 404")
        _refused(secure, member, ["quota", "show", "--project", project_b], project_b, "HTTP 403")
        _refused(secure, member, ["quota", "set", "volumes=1000"], "HTTP 403")
        ids = {v["id"] for v in _json(secure, admin, "volumes", "list", "--all-projects")}
        expect(ids >= {mine, theirs}, f"an admin's list of all projects is {ids}")
        expect_equal(_json(secure, admin, "quota", "show", "--project", project_b)["volumes"]["in_use"], 1, "other's volumes in use")
        for command in (["image-volumes", "list"], ["image-volumes", "report"], ["status"]):
            _refused(secure, member, command, "for admins", "HTTP 403")
            _json(secure, admin, *command)
            _json(secure, {"OS_TOKEN": secure.token("admin")}, *command)


def _tokens_asked_for(secure):
    """How often keystone was asked for a token, by its own log."""
    return (secure.keystone.folder / "uwsgi.out").read_text(errors="replace").count("POST /v3/auth/tokens")


def who_is_refused_reads_what_to_do(rig):
    secure = rig.secure
    keystone, url = secure.keystone, secure.daemon.volume_root
    good, revoked = secure.token("member"), keystone.token("member")
    keystone.revoke(revoked)
    bad = {"an expired": keystone.ending(good, -60), "a revoked": revoked, "no": "0" * 32}
    commands = (["quota", "show"], ["volumes", "list"], ["image-volumes", "list"], ["image-volumes", "report"])
    for token in bad.values():
        for command in commands:
            _refused(secure, {"OS_TOKEN": token}, command, "expired", "--os-token", "OS_PASSWORD")
    member = keystone.client("member")
    for name, value in (("OS_PASSWORD", "wrong"), ("OS_USERNAME", "nobody"), ("OS_PROJECT_NAME", "nowhere")):
        for command in commands:
            asked = _tokens_asked_for(secure)
            _refused(secure, {**member, name: value}, command, keystone.url, "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME")
            # A wrong password that is sent three times is three of those after which an account is locked.
            until(lambda: _tokens_asked_for(secure) > asked, "keystone's line of the question", 10)
            expect_equal(_tokens_asked_for(secure) - asked, 1, f"how often {' '.join(command)} asked with a wrong {name}")
    for name, words in (("OS_PASSWORD", "password is not set"), ("OS_PROJECT_NAME", "neither project_name nor project_id")):
        _refused(secure, {key: value for key, value in member.items() if key != name}, ["quota", "show"], words)
    elsewhere = {**member, "OS_AUTH_URL": secure.daemon.status_url}
    _refused(secure, elsewhere, ["volumes", "list"], secure.daemon.status_url, "OS_AUTH_URL")
    # Of a daemon that only --url names nothing is known, not even whether it asks for tokens.
    _refused(secure, {}, ["quota", "show", "--url", url], "checks tokens", "OS_AUTH_URL", config=False)
    _refused(secure, {"OS_TOKEN": good}, ["quota", "show", "--url", url], "OS_AUTH_URL", "OS_PROJECT_ID", config=False)
    system = {**keystone.client("admin"), "OS_SYSTEM_SCOPE": "all"}
    del system["OS_PROJECT_NAME"]
    _refused(secure, system, ["quota", "show"], "no project", "--os-project-id")


def with_keystone_away_commands_fail_and_say_so(rig):
    secure = rig.secure
    keystone, good = secure.keystone, secure.token("member")
    keystone.stop()
    try:
        for command in (["quota", "show"], ["volumes", "list"], ["image-volumes", "list"], ["image-volumes", "report"]):
            _refused(secure, keystone.client("member"), command, keystone.url, "OS_AUTH_URL", "Keystone up?")
            _refused(secure, {"OS_TOKEN": good}, command, f"Keystone at {keystone.url}", "connect")
        _refused(secure, {}, ["quota", "show"], f"Keystone at {keystone.url}", "service's own account")
    finally:
        keystone.start()
    until(lambda: _run(secure, {"OS_TOKEN": good}, "quota", "show").returncode == 0, "a `quota show` with keystone back")


CASES = [a_commands_project_is_that_of_the_account, a_member_sees_its_own_and_an_admin_the_image_volumes,
         who_is_refused_reads_what_to_do, with_keystone_away_commands_fail_and_say_so]

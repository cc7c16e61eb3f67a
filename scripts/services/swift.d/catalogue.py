"""Fills a Keystone that knows only its admin, and prints the id of project "registry": catalogue.py URL PORT-OF-REGION-ONE PORT-OF-REGION-TWO

The passwords are in the environment: ADMIN_PASSWORD, SERVICE_PASSWORD (by which Swift has tokens checked), PASSWORD (everyone else's).
"""
import json
import os
import sys
import urllib.request

url, port_one, port_two = sys.argv[1:]
headers = {"Content-Type": "application/json"}


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url + path, data, headers, method=method), timeout=60) as response:
        return response.headers, json.loads(response.read() or b"{}")


def create(kind, **fields):
    return call("POST", f"/{kind}s", {kind: fields})[1][kind]["id"]


def user(name, password, project, role):
    user_id = create("user", name=name, password=password, domain_id="default")
    call("PUT", f"/projects/{project}/users/{user_id}/roles/{roles[role]}")


admin = {"name": "admin", "domain": {"id": "default"}}
identity = {"methods": ["password"], "password": {"user": {**admin, "password": os.environ["ADMIN_PASSWORD"]}}}
headers["X-Auth-Token"] = call("POST", "/auth/tokens", {"auth": {"identity": identity, "scope": {"project": admin}}})[0]["X-Subject-Token"]
roles = {role["name"]: role["id"] for role in call("GET", "/roles")[1]["roles"]}

service, registry, elsewhere = (create("project", name=name, domain_id="default") for name in ("service", "registry", "elsewhere"))
user("swift", os.environ["SERVICE_PASSWORD"], service, "admin")
user("registry", os.environ["PASSWORD"], registry, "member")
user("registry-ro", os.environ["PASSWORD"], registry, "reader")
user("stranger", os.environ["PASSWORD"], elsewhere, "member")

create("region", id="RegionTwo")  # RegionOne is there, for Keystone itself
swift = create("service", type="object-store", name="swift")
for region, port, prefix in ("RegionOne", port_one, "AUTH"), ("RegionTwo", port_two, "R2"):
    for interface in "public", "internal", "admin":
        account = f"http://127.0.0.1:{port}/v1/{prefix}_$(project_id)s"
        create("endpoint", interface=interface, region_id=region, service_id=swift, url=account)
print(registry)

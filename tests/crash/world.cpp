#include "crash/world.hpp"

#include <sqlite3.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "base/text.hpp"

namespace imagecache::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* internal_project = "internal";

fs::path place_of_volumes() {
  const char* named = std::getenv("IMAGECACHE_TEST_XFS");
  return named != nullptr ? fs::path(named) : fs::temp_directory_path();
}

json body_of(const HttpAnswer& answer) {
  return answer.complete && !answer.body.empty() ? json::parse(answer.body, nullptr, false) : json();
}

}  // namespace

const Disk& disk() {
  static const Disk made = [] {
    Disk one{.raw = sparse_disk(), .qcow2 = {}};
    one.qcow2 = as_qcow2(one.raw);
    return one;
  }();
  return made;
}

World::World() : World(nullptr) {}

World::World(std::unique_ptr<Store> (*make_store)())
    : directory(place_of_volumes()), store_(make_store ? make_store() : file_store(directory / "volumes")) {
  std::ofstream(directory / "daemon.conf")
      << "[DEFAULT]\nauth_strategy = noauth\nhost = testhost\nenabled_backends = store1\nquota_volumes = 100\n"
      << "image_cache_dir = " << (directory / "images").native() << "\nglance_num_retries = 1\n"
      << "cinder_internal_tenant_project_id = " << internal_project << "\n"
      << "cinder_internal_tenant_user_id = internal-user\n"
      << "[image_cache_service]\nimage_api_bind = 127.0.0.1:0\nvolume_api_bind = 127.0.0.1:0\n"
      << "status_bind = 127.0.0.1:0\norigin = " << origin.url()
      << "\n"
      // Nothing is written in the background, so that the nth commit is the same one each time.
      << "state_path = " << (directory / "state").native() << "\nhit_flush_interval = 3600\n"
      << "[store1]\nvolume_backend_name = store1\nimage_volume_cache_enabled = true\n"
      << store_->options();
}

void World::start(const std::string& crash_at) {
  daemon_.reset();  // before its successor: they hold the same locks
  std::vector<std::string> environment;
  if (!crash_at.empty()) environment.push_back("IMAGECACHE_CRASH_AT=" + crash_at);
  daemon_ = std::make_unique<DaemonProcess>(IMAGECACHE_DAEMON, directory / "daemon.conf", environment);
  if (crash_at.empty()) ASSERT_TRUE(daemon_->has_served()) << daemon_->log();
}

HttpAnswer World::image(std::string_view method, std::string_view target) const {
  return http(daemon_->ports().image_api, method, target);
}

HttpAnswer World::volume(std::string_view method, std::string_view target, const json& body) const {
  HttpClient client(daemon_->ports().volume_api);
  return volume(client, method, target, body);
}

HttpAnswer World::volume(HttpClient& client, std::string_view method, std::string_view target, const json& body) {
  return client.request(method, "/v3/admin" + std::string(target),
                        {"Content-Type: application/json", "OpenStack-API-Version: volume 3.65"},
                        body.is_null() ? "" : body.dump());
}

HttpAnswer World::hook(std::string_view method, const std::string& volume_id, const json& body) const {
  return http(daemon_->ports().volume_api, method, "/v1/hook/volumes/" + volume_id, {"Content-Type: application/json"},
              body.is_null() ? "" : body.dump());
}

HttpAnswer World::status(std::string_view method, std::string_view target) const {
  return http(daemon_->ports().status, method, target);
}

HttpAnswer World::hook_create(const std::string& volume_id, const std::string& image_id) const {
  return hook("PUT", volume_id,
              {{"backend", "store1"}, {"name", "volume-" + volume_id}, {"size_gb", 1}, {"image_id", image_id}});
}

std::string World::create(const std::string& image_id, int size_gb) const {
  const auto answer = volume("POST", "/volumes", {{"volume", {{"size", size_gb}, {"imageRef", image_id}}}});
  return answer.status == 202 && answer.complete ? body_of(answer)["volume"]["id"].get<std::string>() : "";
}

std::string World::settle(const std::string& volume_id) const {
  HttpClient client(daemon_->ports().volume_api);  // one for all: each connection leaves a port in TIME-WAIT behind
  for (;;) {
    const auto answer = volume(client, "GET", "/volumes/" + volume_id);
    if (answer.status == 404) return "gone";
    if (answer.status != 200 || !answer.complete) {
      return "unknown (" + std::to_string(answer.status) + " " + answer.body + ")\n" + daemon_->log();
    }
    const std::string now = body_of(answer)["volume"]["status"];
    if (now != "creating" && now != "downloading" && now != "deleting" && now != "extending") return now;
    std::this_thread::yield();
  }
}

std::string World::image_volume() const {
  const json rows = body_of(status("GET", "/v1/image-volumes")).value("image_volumes", json::array());
  return rows.size() == 1 && rows[0]["state"] == "ready" ? rows[0]["id"].get<std::string>() : "";
}

bool World::has_volume(const std::string& volume_id) const {
  return std::ranges::binary_search(store_->names(), "volume-" + volume_id);
}

testing::AssertionResult World::volume_holds(const std::string& volume_id, const std::string& raw, int size_gb) const {
  return store_->holds("volume-" + volume_id, raw, size_gb);
}

void World::expect_settled(const std::string& raw) const {
  const json volumes = body_of(volume("GET", "/volumes/detail?all_tenants=1")).value("volumes", json());
  ASSERT_TRUE(volumes.is_array()) << daemon_->log();
  std::set<std::string> available;
  std::set<std::string> of_internal_tenant;
  for (const auto& row : volumes) {
    const std::string id = row["id"];
    const std::string state = row["status"];
    EXPECT_TRUE(state == "available" || state == "error") << id << " is " << state;
    if (state == "available") available.insert("volume-" + id);
    if (state == "available") EXPECT_TRUE(volume_holds(id, raw, row["size"].get<int>()));
    if (row["os-vol-tenant-attr:tenant_id"] == internal_project) of_internal_tenant.insert(id);
  }
  const auto there = store_->names();
  EXPECT_EQ(std::set<std::string>(there.begin(), there.end()), available) << daemon_->log();

  std::set<std::string> image_volumes;
  std::set<std::string> images;
  for (const auto& row : body_of(status("GET", "/v1/image-volumes"))["image_volumes"]) {
    EXPECT_EQ(row["state"], "ready") << row.dump();
    EXPECT_TRUE(images.insert(row["image_id"].get<std::string>()).second) << "two of one image: " << row.dump();
    image_volumes.insert(row["id"].get<std::string>());
  }
  EXPECT_EQ(image_volumes, of_internal_tenant);

  for (const auto& backend : body_of(status("GET", "/v1/backends"))["backends"]) {
    EXPECT_TRUE(backend["strays"].empty()) << backend.dump();
    EXPECT_TRUE(backend["error"].is_null()) << backend.dump();
  }
  expect_quotas_add_up(volumes);
  EXPECT_TRUE(files_in(directory / "state/conversion").empty());
  store_->expect_no_scraps();
}

void World::expect_quotas_add_up(const json& volumes) const {
  for (const std::string project : {"admin", internal_project}) {
    int count = 0;
    int gigabytes = 0;
    for (const auto& row : volumes) {
      if (row["os-vol-tenant-attr:tenant_id"] != project || !row["consumes_quota"].get<bool>()) continue;
      ++count;
      gigabytes += row["size"].get<int>();
    }
    const json quota = body_of(volume("GET", "/os-quota-sets/" + project + "?usage=True")).value("quota_set", json());
    ASSERT_TRUE(quota.is_object()) << daemon_->log();
    EXPECT_EQ(quota["volumes"]["in_use"], count) << project;
    EXPECT_EQ(quota["gigabytes"]["in_use"], gigabytes) << project;
    EXPECT_EQ(quota["volumes"]["reserved"], 0) << project;
    EXPECT_EQ(quota["gigabytes"]["reserved"], 0) << project;
  }
}

void World::expect_clean_stop() {
  // A fill that nobody waits for goes on by itself; a stop would rightly leave its part to be gone on with.
  while (!body_of(status("GET", "/v1/fills"))["fills"].empty()) std::this_thread::yield();
  const auto ended = daemon_->terminate();
  ASSERT_TRUE(ended) << daemon_->log();
  EXPECT_TRUE(WIFEXITED(*ended) && WEXITSTATUS(*ended) == 0) << *ended << "\n" << daemon_->log();
  expect_rows_match_files();
  EXPECT_TRUE(files_in(directory / "images/incomplete").empty());
  EXPECT_TRUE(files_in(directory / "images/invalid").empty());
}

void World::expect_rows_match_files() const {
  std::map<std::string, std::uintmax_t> rows;
  sqlite3* database = nullptr;
  ASSERT_EQ(::sqlite3_open((directory / "images/cache.db").c_str(), &database), SQLITE_OK);
  sqlite3_stmt* select = nullptr;
  ::sqlite3_prepare_v2(database, "SELECT image_id, size FROM cached_images", -1, &select, nullptr);
  while (::sqlite3_step(select) == SQLITE_ROW) {
    const std::string id = reinterpret_cast<const char*>(::sqlite3_column_text(select, 0));
    rows[id] = static_cast<std::uintmax_t>(::sqlite3_column_int64(select, 1));
  }
  ::sqlite3_finalize(select);
  ::sqlite3_close(database);
  std::map<std::string, std::uintmax_t> files;
  for (const auto& name : files_in(directory / "images")) {
    if (base::is_uuid(name)) files[name] = fs::file_size(directory / "images" / name);
  }
  EXPECT_EQ(rows, files) << "cache.db against the image files";
}

}  // namespace imagecache::test

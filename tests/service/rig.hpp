// The whole daemon in this process, on ports of the kernel's choice, with a scripted Glance and a file backend.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "app/service.hpp"
#include "support/http_client.hpp"
#include "support/scripted_origin.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::test {

using nlohmann::json;

struct DaemonOptions {
  std::string service{};                                        ///< lines for [image_cache_service]
  std::string defaults{};                                       ///< lines for [DEFAULT]
  std::string backend = "image_volume_cache_enabled = true\n";  ///< lines for [file1]
  std::string driver = "file";
  std::filesystem::path cache_dir{};   ///< empty: one of its own
  std::filesystem::path volume_dir{};  ///< empty: one of its own
  std::filesystem::path state_dir{};   ///< empty: one of its own
  std::string origin{};                ///< empty: the scripted one
};

class Daemon {
 public:
  explicit Daemon(DaemonOptions options = {}) : options_(std::move(options)) {
    if (options_.cache_dir.empty()) options_.cache_dir = directory / "images";
    if (options_.volume_dir.empty()) options_.volume_dir = directory / "volumes";
    if (options_.state_dir.empty()) options_.state_dir = directory / "state";
    std::filesystem::create_directories(options_.volume_dir);
    start();
  }

  Result<std::unique_ptr<app::Service>> try_start() {
    const auto path = directory / "test.conf";
    std::ofstream(path, std::ios::trunc)
        << "[DEFAULT]\nauth_strategy = noauth\nhost = testhost\nenabled_backends = file1\n"
        << "image_cache_dir = " << options_.cache_dir.native() << "\n"
        << "glance_num_retries = 1\ncinder_internal_tenant_project_id = internal\n"
        << "cinder_internal_tenant_user_id = internal-user\nquota_volumes = 100\n"
        << options_.defaults << "[image_cache_service]\n"
        << "image_api_bind = 127.0.0.1:0\nvolume_api_bind = 127.0.0.1:0\nstatus_bind = 127.0.0.1:0\n"
        << "origin = " << (options_.origin.empty() ? origin.url() : options_.origin) << "\n"
        << "state_path = " << options_.state_dir.native() << "\n"
        << options_.service << "[file1]\nvolume_driver = " << options_.driver
        << "\nvolume_backend_name = file1\nfile_volume_dir = " << options_.volume_dir.native() << "\n"
        << options_.backend;
    auto config = config::load({.sources = {{.kind = config::ConfigSource::Kind::file, .path = path}}});
    if (!config) return std::unexpected(config.error());
    return app::Service::start(*config);
  }
  void start() {
    auto started = try_start();
    ASSERT_TRUE(started) << started.error().message;
    service = std::move(*started);
    while (service->images().load_progress()) std::this_thread::yield();  // a test may look at what is cached
  }
  void stop() { service.reset(); }
  void restart() {
    stop();
    start();
  }

  HttpAnswer image(std::string_view method, std::string_view target, const std::vector<std::string>& headers = {},
                   std::string_view body = {}) {
    return http(service->image_api_port(), method, target, headers, body);
  }
  HttpAnswer volume(std::string_view method, std::string_view target, const json& body = {}) {
    return http(service->volume_api_port(), method, "/v3/admin" + std::string(target),
                {"Content-Type: application/json"}, body.is_null() ? "" : body.dump());
  }
  HttpAnswer status(std::string_view method, std::string_view target, const json& body = {}) {
    return http(service->status_port(), method, target, {"Content-Type: application/json"},
                body.is_null() ? "" : body.dump());
  }
  /// POST /volumes; the id, or "" with a failure of the test.
  std::string create(const std::string& image_id, int size_gb = 1) {
    const auto answer =
        volume("POST", "/volumes", {{"volume", {{"size", size_gb}, {"imageRef", image_id}, {"name", "v"}}}});
    EXPECT_EQ(answer.status, 202) << answer.body;
    return answer.status == 202 ? json::parse(answer.body)["volume"]["id"].get<std::string>() : "";
  }
  json show(const std::string& volume_id) {
    const auto answer = volume("GET", "/volumes/" + volume_id);
    return answer.status == 200 ? json::parse(answer.body)["volume"] : json{{"status", "gone"}};
  }
  /// Waits while it is on its way; the status it ends in.
  std::string settle(const std::string& volume_id) {
    for (;;) {
      const std::string now = show(volume_id)["status"];
      if (now != "creating" && now != "downloading" && now != "deleting" && now != "extending") return now;
      std::this_thread::yield();
    }
  }
  std::filesystem::path volume_file(const std::string& volume_id) const {
    return options_.volume_dir / ("volume-" + volume_id);
  }
  std::size_t volume_files() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(options_.volume_dir)) {
      if (entry.is_regular_file()) ++count;
    }
    return count;
  }
  const std::filesystem::path& cache_dir() const { return options_.cache_dir; }
  events::Counters& counters() { return service->counters(); }

  TempDir directory;
  ScriptedOrigin origin;
  std::unique_ptr<app::Service> service;

 private:
  DaemonOptions options_;
};

}  // namespace imagecache::test

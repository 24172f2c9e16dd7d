// A scripted origin, directories that outlive the daemon, and the daemon itself as a process that can be killed. What
// it must keep through a crash is checked here, from outside: HTTP answers, files, and Glance's own database.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "crash/store.hpp"
#include "support/daemon_process.hpp"
#include "support/disk.hpp"
#include "support/http_client.hpp"
#include "support/scripted_origin.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::test {

using nlohmann::json;

/// A disk with data, holes and text, and the compressed qcow2 file that holds it.
struct Disk {
  std::string raw;
  std::string qcow2;
};
/// Made once in a process; the qcow2 is empty if there is no qemu-img.
const Disk& disk();

class World {
 public:
  /// On files.
  World();
  explicit World(std::unique_ptr<Store> (*make_store)());

  /// Starts the daemon; with `crash_at` it is to kill itself there ("publish.renamed", "fill.written:3").
  void start(const std::string& crash_at = "");
  DaemonProcess& daemon() { return *daemon_; }

  HttpAnswer image(std::string_view method, std::string_view target) const;
  HttpAnswer volume(std::string_view method, std::string_view target, const json& body = {}) const;
  HttpAnswer hook(std::string_view method, const std::string& volume_id, const json& body = {}) const;
  HttpAnswer status(std::string_view method, std::string_view target) const;

  /// PUT to the hook, of `image_id` into `volume_id`.
  HttpAnswer hook_create(const std::string& volume_id, const std::string& image_id) const;
  /// POST /volumes; the id, empty without an answer.
  std::string create(const std::string& image_id, int size_gb = 1) const;
  /// The volume's status once it is on its way no more: "gone" without a row; if nobody answers, "unknown" and all that
  /// may tell why.
  std::string settle(const std::string& volume_id) const;
  /// "" unless there is exactly one that is ready.
  std::string image_volume() const;

  const Store& store() const { return *store_; }
  bool has_volume(const std::string& volume_id) const;
  testing::AssertionResult volume_holds(const std::string& volume_id, const std::string& raw, int size_gb) const;

  /// No volume on its way, each row with what is stored and the other way round, every volume whole, quotas that add
  /// up, no strays, nothing left in scratch directories. `raw` is what every volume holds.
  void expect_settled(const std::string& raw) const;
  /// Stops the daemon as an operator does, then compares Glance's cache.db with the files.
  void expect_clean_stop();

  TempDir directory;
  ScriptedOrigin origin;

 private:
  static HttpAnswer volume(HttpClient& client, std::string_view method, std::string_view target, const json& body = {});
  void expect_rows_match_files() const;
  void expect_quotas_add_up(const json& volumes) const;

  std::unique_ptr<Store> store_;
  std::unique_ptr<DaemonProcess> daemon_;
};

}  // namespace imagecache::test

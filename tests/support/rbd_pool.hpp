// The Ceph pool that tests of the rbd driver and of the daemon on it share, one test at a time.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backends/rbd/cluster.hpp"
#include "base/text.hpp"
#include "imagecache/driver.hpp"

namespace imagecache::test {

/// The pool of a cluster for tests, emptied at the start; and a way to read its images.
class RbdPool {
 public:
  static std::string conf() {
    const char* const named = std::getenv("IMAGECACHE_TEST_CEPH");
    EXPECT_NE(named, nullptr) << "this test needs a cluster: set IMAGECACHE_TEST_CEPH to what tests/support/ceph.sh "
                                 "start DIR prints";
    return named ? named : "";
  }
  RbdPool() : cluster_({.pool = "volumes", .ceph_conf = conf(), .connection_retries = 0}) {
    auto connection = cluster_.get();
    EXPECT_TRUE(connection) << connection.error().message;
    if (!connection) return;
    connection_ = *connection;
    std::vector<librbd::image_spec_t> images;
    connection_->rbd.list2(connection_->pool, &images);
    // Clones before what they were made of; what is left after that many rounds is reported by the tests.
    for (std::size_t round = 0; round < 3 && !images.empty(); ++round) {
      for (const auto& image : images) remove(image.name);
      images.clear();
      connection_->rbd.list2(connection_->pool, &images);
    }
    std::vector<librbd::trash_image_info_t> trash;
    connection_->rbd.trash_list(connection_->pool, trash);
    for (std::size_t round = 0; round < 2; ++round) {
      for (const auto& entry : trash) {
        {
          librbd::Image image;
          std::vector<librbd::snap_info_t> snapshots;
          if (connection_->rbd.open_by_id(connection_->pool, image, entry.id.c_str(), nullptr) >= 0)
            image.snap_list(snapshots);
          for (const auto& snapshot : snapshots) image.snap_remove(snapshot.name.c_str());
        }
        connection_->rbd.trash_remove(connection_->pool, entry.id.c_str(), true);
      }
    }
  }
  std::vector<std::string> names() {
    std::vector<librbd::image_spec_t> images;
    EXPECT_GE(connection_->rbd.list2(connection_->pool, &images), 0);
    std::vector<std::string> names;
    for (const auto& image : images) names.push_back(image.name);
    return names;
  }
  /// Is the image of exactly size_gb GiB, and holds `raw` and behind it zeroes?
  testing::AssertionResult holds(const VolumeId& volume, const std::string& raw, int size_gb) {
    const auto bad = [&](const std::string& reason) {
      return testing::AssertionFailure() << volume.name << ": " << reason;
    };
    librbd::Image image;
    if (connection_->rbd.open_read_only(connection_->pool, image, volume.name.c_str(), nullptr) < 0)
      return bad("cannot be opened");
    std::uint64_t size = 0;
    if (image.size(&size) < 0 || size != static_cast<std::uint64_t>(size_gb) * base::gib)
      return bad("size " + std::to_string(size));
    ceph::bufferlist bytes;
    if (image.read(0, raw.size(), bytes) < 0 || bytes.to_str() != raw) return bad("its bytes are not the image's");
    // What is nowhere written reads as zeroes; the rest behind the image must be zeroes too.
    std::vector<std::pair<std::uint64_t, std::size_t>> written;
    const auto note = [](std::uint64_t offset, std::size_t length, int exists, void* into) {
      if (exists != 0)
        static_cast<std::vector<std::pair<std::uint64_t, std::size_t>>*>(into)->emplace_back(offset, length);
      return 0;
    };
    if (image.diff_iterate2(nullptr, raw.size(), size - raw.size(), true, false, note, &written) < 0)
      return bad("cannot be asked what is written of it");
    for (const auto& [offset, length] : written) {
      ceph::bufferlist tail;
      if (image.read(offset, length, tail) < 0 || !tail.is_zero())
        return bad("data behind the image near " + std::to_string(offset));
    }
    return testing::AssertionSuccess();
  }
  Result<std::size_t> read(const VolumeId& volume, std::uint64_t offset, std::span<std::byte> data) {
    librbd::Image image;
    int code = connection_->rbd.open_read_only(connection_->pool, image, volume.name.c_str(), nullptr);
    std::uint64_t size = 0;
    if (code >= 0) code = image.size(&size);
    if (code < 0) return fail(backends::errc_of(code), volume.name);
    if (offset >= size) return std::size_t{0};
    const auto wanted = std::min<std::uint64_t>(data.size(), size - offset);
    ceph::bufferlist bytes;
    const auto got = image.read(offset, wanted, bytes);
    if (got < 0) return fail(backends::errc_of(static_cast<int>(got)), volume.name);
    std::memcpy(data.data(), bytes.c_str(), static_cast<std::size_t>(got));
    return static_cast<std::size_t>(got);
  }
  /// Snapshots and children of an image: (snapshots, children).
  std::pair<std::size_t, std::size_t> relatives(const VolumeId& volume) {
    librbd::Image image;
    std::vector<librbd::snap_info_t> snapshots;
    std::vector<librbd::linked_image_spec_t> children;
    if (connection_->rbd.open_read_only(connection_->pool, image, volume.name.c_str(), nullptr) >= 0) {
      image.snap_list(snapshots);
      image.list_children3(&children);
    }
    return {snapshots.size(), children.size()};
  }
  std::uint64_t size_bytes(const VolumeId& volume) {
    librbd::Image image;
    std::uint64_t size = 0;
    if (connection_->rbd.open_read_only(connection_->pool, image, volume.name.c_str(), nullptr) >= 0) image.size(&size);
    return size;
  }
  /// By name; empty where there is no parent.
  std::string parent_snapshot(const VolumeId& volume) {
    librbd::Image image;
    librbd::linked_image_spec_t parent;
    librbd::snap_spec_t snapshot;
    if (connection_->rbd.open_read_only(connection_->pool, image, volume.name.c_str(), nullptr) >= 0)
      image.get_parent(&parent, &snapshot);
    return snapshot.name;
  }
  void resize(const VolumeId& volume, std::uint64_t size_bytes) {
    librbd::Image image;
    ASSERT_EQ(connection_->rbd.open(connection_->pool, image, volume.name.c_str(), nullptr), 0);
    EXPECT_EQ(image.resize(size_bytes), 0);
  }
  void make_snapshot(const VolumeId& volume, const std::string& name) {
    librbd::Image image;
    ASSERT_EQ(connection_->rbd.open(connection_->pool, image, volume.name.c_str(), nullptr), 0);
    EXPECT_EQ(image.snap_create(name.c_str()), 0);
  }
  void remove_snapshot(const VolumeId& volume, const std::string& name) {
    librbd::Image image;
    if (connection_->rbd.open(connection_->pool, image, volume.name.c_str(), nullptr) >= 0)
      image.snap_remove(name.c_str());
  }
  void disable(const VolumeId& volume, std::uint64_t features) {
    librbd::Image image;
    ASSERT_EQ(connection_->rbd.open(connection_->pool, image, volume.name.c_str(), nullptr), 0) << volume.name;
    EXPECT_EQ(image.update_features(features, false), 0) << volume.name;
  }
  void shut_out(const std::string& client_address) {
    EXPECT_EQ(connection_->rados.blocklist_add(client_address, 60), 0) << client_address;
  }
  void to_trash(const VolumeId& volume) {
    EXPECT_EQ(connection_->rbd.trash_move(connection_->pool, volume.name.c_str(), 0), 0) << volume.name;
  }
  std::size_t in_trash() {
    std::vector<librbd::trash_image_info_t> trash;
    connection_->rbd.trash_list(connection_->pool, trash);
    return trash.size();
  }
  void remove(const std::string& name) {
    {
      librbd::Image image;
      std::vector<librbd::snap_info_t> snapshots;
      if (connection_->rbd.open(connection_->pool, image, name.c_str()) >= 0) image.snap_list(snapshots);
      for (const auto& snapshot : snapshots) image.snap_remove(snapshot.name.c_str());
    }
    connection_->rbd.remove(connection_->pool, name.c_str());
  }

 private:
  backends::Cluster cluster_;
  std::shared_ptr<backends::Connection> connection_;
};

}  // namespace imagecache::test

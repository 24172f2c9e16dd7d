// Where the volumes of a World are, and a look at them past the daemon.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace imagecache::test {

class Store {
 public:
  virtual ~Store() = default;

  /// Lines of its section of cinder.conf.
  virtual std::string options() const = 0;
  /// Names of the volumes that are there, sorted.
  virtual std::vector<std::string> names() const = 0;
  /// Is the volume of exactly size_gb GiB, and holds `raw` and behind it zeroes?
  virtual testing::AssertionResult holds(const std::string& name, const std::string& raw, int size_gb) const = 0;
  /// Beside whole volumes there is nothing, as at any time when the daemon is at rest.
  virtual void expect_no_scraps() const = 0;
  /// All volumes have been deleted: nothing of any is there, or will be soon.
  virtual void expect_empty() const = 0;
};

/// In `directory`, by the driver `file`.
std::unique_ptr<Store> file_store(const std::filesystem::path& directory);
/// In the cluster of IMAGECACHE_TEST_CEPH, by the driver `rbd`; one at a time. The pool is emptied first.
std::unique_ptr<Store> rbd_store();

}  // namespace imagecache::test

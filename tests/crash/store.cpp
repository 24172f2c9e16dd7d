#include "crash/store.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include "support/disk.hpp"
#ifdef IMAGECACHE_BACKEND_RBD
#include "support/rbd_pool.hpp"
#endif

namespace imagecache::test {
namespace {

class FileStore final : public Store {
 public:
  explicit FileStore(std::filesystem::path directory) : directory_(std::move(directory)) {
    std::filesystem::create_directories(directory_);
  }
  std::string options() const override {
    return "volume_driver = file\nfile_volume_dir = " + directory_.native() + "\n";
  }
  std::vector<std::string> names() const override { return files_in(directory_); }
  testing::AssertionResult holds(const std::string& name, const std::string& raw, int size_gb) const override {
    return test::holds(directory_ / name, raw, size_gb);
  }
  void expect_no_scraps() const override {
    EXPECT_EQ(files_in(directory_ / ".cinder-image-cache"), std::vector<std::string>{"lock"});
  }
  void expect_empty() const override { EXPECT_EQ(names(), std::vector<std::string>()); }

 private:
  const std::filesystem::path directory_;
};

#ifdef IMAGECACHE_BACKEND_RBD
class RbdStore final : public Store {
 public:
  std::string options() const override {
    return "volume_driver = rbd\nrbd_pool = volumes\nrbd_ceph_conf = " + RbdPool::conf() + "\n";
  }
  std::vector<std::string> names() const override {
    auto names = pool_.names();
    std::ranges::sort(names);
    return names;
  }
  testing::AssertionResult holds(const std::string& name, const std::string& raw, int size_gb) const override {
    return pool_.holds({name}, raw, size_gb);
  }
  // An image-volume with clones is rightly in the trash.
  void expect_no_scraps() const override {}
  void expect_empty() const override {
    EXPECT_EQ(names(), std::vector<std::string>());
    // What an earlier process has left in the trash is looked for some seconds after a start.
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(90);
    while (pool_.in_trash() != 0 && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(pool_.in_trash(), 0U);
  }

 private:
  mutable RbdPool pool_;
};
#endif

}  // namespace

std::unique_ptr<Store> file_store(const std::filesystem::path& directory) {
  return std::make_unique<FileStore>(directory);
}

#ifdef IMAGECACHE_BACKEND_RBD
std::unique_ptr<Store> rbd_store() {
  return std::make_unique<RbdStore>();
}
#endif

}  // namespace imagecache::test

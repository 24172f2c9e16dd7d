// Which files are held, and what they take: a file that is held by several names counts once.
//
// Not thread-safe: the cache holds its mutex.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace imagecache::image_cache {

class HeldFiles {
 public:
  /// By which a file is known, whatever its names: device and inode.
  using Inode = std::pair<dev_t, ino_t>;
  static Inode inode_of(const struct stat& info) { return {info.st_dev, info.st_ino}; }

  struct File {
    std::string image_id;
    Inode inode{};
    std::uint64_t size_bytes = 0;
    bool is_cached = true;  ///< it is the cached file of its image, for all that is known
  };

  void add(const std::string& name, File file) {
    Known& known = by_inode_[file.inode];
    if (known.names++ == 0) bytes_ += known.size_bytes = file.size_bytes;
    known.inode = file.inode;
    known.a_name = name;
    by_name_[name] = std::move(file);
  }
  /// Nothing happens where it is none.
  void remove(const std::string& name) {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) return;
    const auto known = by_inode_.find(found->second.inode);
    by_name_.erase(found);
    if (--known->second.names > 0) {
      for (const auto& [other, file] : by_name_) {
        if (file.inode == known->first) known->second.a_name = other;
      }
      return;
    }
    bytes_ -= known->second.size_bytes;
    by_inode_.erase(known);
  }

  /// It is no more the cached file of its image. The images of the names that took it for that, each as often.
  std::vector<std::string> left_cache(const Inode& inode) {
    std::vector<std::string> images;
    for (auto& [name, file] : by_name_) {
      if (file.inode == inode && std::exchange(file.is_cached, false)) images.push_back(file.image_id);
    }
    return images;
  }

  bool contains(const std::string& name) const { return by_name_.contains(name); }
  bool contains(const Inode& inode) const { return by_inode_.contains(inode); }
  const std::map<std::string, File>& by_name() const { return by_name_; }
  std::size_t files() const { return by_inode_.size(); }
  std::uint64_t bytes() const { return bytes_; }

  struct Counted {
    Inode inode{};
    std::string a_name;
    unsigned names = 0;
    std::uint64_t size_bytes = 0;
  };
  /// Each file once.
  std::vector<Counted> counted() const {
    std::vector<Counted> all;
    all.reserve(by_inode_.size());
    for (const auto& [inode, known] : by_inode_) all.push_back(known);
    return all;
  }

 private:
  using Known = Counted;
  std::map<std::string, File> by_name_;
  std::map<Inode, Known> by_inode_;
  std::uint64_t bytes_ = 0;
};

}  // namespace imagecache::image_cache

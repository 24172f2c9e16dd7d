// A backend whose volumes are raw files in one directory, named exactly as the volume and of exactly its size: what
// Cinder's file drivers manage. On XFS and btrfs a clone shares its source's blocks (FICLONE); elsewhere it is a copy
// of the source's data that keeps holes.
//
// Called by whoever holds it as a Driver, on any thread, several at once. It only makes blocking system calls. What
// must always be true: a file under a volume's name is whole, except an image-volume between create_volume and the end
// of copy_image_to_volume; and success is told only after the file and its name are on disk, or, of a clone that names
// itself later, after the file and a name aside are.
#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "backends/file/new_file.hpp"
#include "base/fd.hpp"
#include "imagecache/driver.hpp"

namespace imagecache::backends {

class FileDriver final : public Driver {
 public:
  /// Who may do what with a volume's file.
  struct Access {
    mode_t mode = 0660;
    /// It is given to the directory's own owner and group. Takes root; without, it is this process's.
    bool owned_as_directory = false;
  };
  struct Options {
    std::string label;                ///< what messages begin with: section, option and directory
    std::filesystem::path directory;  ///< absolute; must exist
    unsigned max_concurrency = 16;
    /// An image file in more extents than this is copied into its image-volume although it could be shared: each clone
    /// of the image-volume pays for every extent, the copy is paid once.
    unsigned reflink_max_extents = 128;
    /// Who holds the driver calls list_unnamed_clones() at its start. So where the file system has one journal a clone
    /// with before_named is on disk while that is being called, and gets its name afterwards, without another sync.
    bool names_later = false;
    /// Asked for each new volume; unset: the defaults. Any thread.
    std::function<Access()> access = nullptr;
  };

  explicit FileDriver(Options options) : options_(std::move(options)) {}

  Capabilities capabilities() const override;
  Result<void> check_for_setup_error() override;
  /// As check_for_setup_error(), for a directory that is open already: what the path names now does not matter.
  Result<void> set_up(base::Fd directory);
  Result<VolumeStats> get_volume_stats() override;
  Result<std::vector<VolumeId>> list_volumes() override;
  Result<void> create_volume(const VolumeId& volume, std::uint64_t size_bytes) override;
  Result<void> copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) override;
  Result<void> create_cloned_volume(const CloneSpec& clone) override;
  Result<std::vector<VolumeId>> list_unnamed_clones() override;
  Result<void> settle_unnamed_clone(const VolumeId& volume, bool is_wanted) override;
  Result<void> extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) override;
  Result<void> delete_volume(const VolumeId& volume) override;
  Result<ConnectionInfo> initialize_connection(const VolumeId& volume) override;
  Result<std::unique_ptr<VolumeReader>> read_volume(const VolumeId& volume) override;
  Result<std::optional<std::uint64_t>> used_bytes(const VolumeId& volume) override;

  /// The size of the volume's file; nullopt if there is none. Errc::invalid_argument for a name that no volume has.
  Result<std::optional<std::uint64_t>> find(const VolumeId& volume) const;
  /// A new volume with the content of one in another's directory: a copy of its data, and as large.
  Result<void> copy_from(const FileDriver& other, const VolumeId& source, const VolumeId& target);
  /// A file beside the volumes that is not one of them. `name` is ours, not a caller's.
  bool has_file(const std::string& name) const;
  /// The content of a small one; nullopt if there is none.
  Result<std::optional<std::string>> read_beside(const std::string& name) const;
  /// Sizes of all files in the directory, holes included, as if all were used to the full.
  Result<std::uint64_t> promised_bytes() const;

 private:
  enum class Durable { metadata_only, with_data };

  Result<void> take_work_directory();
  Result<void> empty_work_directory();
  Result<void> probe();
  std::string labelled(std::string_view text) const;
  static std::string name_aside(const VolumeId& volume);  // in the work directory
  NewFile::Place place() const;
  Result<base::Fd> open_volume(const VolumeId& volume, int flags) const;
  bool is_there(const VolumeId& volume) const;
  Result<void> check_room_for(std::uint64_t bytes, const VolumeId& volume) const;
  /// A file and its name, which is in `directory`.
  Result<void> sync_named(int fd, int directory, const VolumeId& volume) const;
  Result<void> publish(NewFile& file, const VolumeId& volume, Durable durable);
  Result<void> publish_later(NewFile& file, const CloneSpec& clone);
  Result<void> share_source(int source, int target, const CloneSpec& clone);
  Result<bool> share_image(int image, int target, std::uint64_t volume_size_bytes, const VolumeId& volume) const;

  const Options options_;
  // Set by check_for_setup_error() and constant afterwards.
  base::Fd directory_;
  base::Fd work_directory_;
  base::Fd lock_;  // keeps others out of directory_, those on other hosts too where the file system is shared
  std::pair<uid_t, gid_t> owner_;  // of directory_
  bool nameless_ = false;
  bool reflinks_ = false;
  bool is_xfs_ = false;
  bool names_later_ = false;
  bool keeps_order_ = false;  // a name is on disk no sooner than what was done to its file before

  // One for each source that is cloned from at the moment; a few sources may share one.
  std::array<std::mutex, 64> source_turns_;
};

/// Options: file_volume_dir (required), file_max_concurrency (default 16), file_reflink_max_extents (default 128).
Result<std::unique_ptr<Driver>> make_file_driver(const BackendOptions& options);

}  // namespace imagecache::backends

// From a section of cinder.conf to an LvmDriver that can work.
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "backends/lvm/lvm_driver.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

/// The options of one section, as oslo.config reads them.
class Reader {
 public:
  explicit Reader(const BackendOptions& options) : options_(options) {}

  [[nodiscard]] std::unexpected<Error> wrong(std::string_view name, const std::string& what,
                                             Errc code = Errc::invalid_argument) const {
    return fail(code, "[" + options_.section() + "] " + std::string(name) + " = " + text(name, "") + ": " + what);
  }
  std::string text(std::string_view name, std::string_view otherwise) const {
    const auto value = options_.get(name);
    return value ? std::string(base::trim(*value)) : std::string(otherwise);
  }
  Result<unsigned> number(std::string_view name, unsigned otherwise, unsigned least, unsigned most) const {
    const auto value = base::parse_unsigned(text(name, std::to_string(otherwise)));
    if (value && *value >= least && *value <= most) return static_cast<unsigned>(*value);
    return wrong(name, "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }

 private:
  const BackendOptions& options_;
};

/// A name that LVM takes (lvm(8), VALID NAMES).
bool is_group_name(std::string_view name) {
  const auto valid = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::string_view("+_.-").contains(c);
  };
  return !name.empty() && name.size() <= 127 && name != "." && name != ".." && !name.starts_with('-') &&
         std::ranges::all_of(name, valid);
}

}  // namespace

Result<void> LvmDriver::check_for_setup_error() {
  const auto refuse = [&](Errc code, const std::string& what) {
    return fail(code, "volume_group = " + group_.name() + ": " + what);
  };
  if (::geteuid() != 0 && options_.group.root_helper.empty()) {
    return refuse(Errc::unsupported, "LVM's commands need root: run the service as root, or set lvm_root_helper");
  }
  const auto space = group_.space();
  if (!space) {
    const Error& error = space.error();
    if (error.message.ends_with("no such program")) {
      return refuse(Errc::unsupported, error.message + "; install lvm2");
    }
    if (error.code == Errc::forbidden) return refuse(Errc::unsupported, "is not ours to use: " + error.message);
    if (error.code == Errc::unavailable) {
      return refuse(Errc::not_found,
                    "no such volume group on this host: vgcreate makes one; if it was made, its disks are not seen");
    }
    return refuse(error.code, error.message);
  }
  extent_bytes_ = space->extent_bytes;
  if (options_.type == Type::thick) return {};

  const std::string pool_name = group_.pool_name();
  auto pool = group_.find(pool_name);
  if (!pool && pool.error().code == Errc::not_found) {
    const std::uint64_t size_bytes = space->free_bytes / 100 * 95 / extent_bytes_ * extent_bytes_;
    base::log::info("lvm", nullptr, "[{}] making thin pool {}/{} of {}", options_.section, group_.name(), pool_name,
                    base::format_bytes(size_bytes));
    if (auto made = group_.create_thin_pool(size_bytes); !made && made.error().code != Errc::already_exists) {
      return refuse(made.error().code, "its thin pool cannot be made: " + made.error().message);
    }
    pool = group_.find(pool_name);
  }
  if (!pool) return refuse(pool.error().code, pool.error().message);
  if (!pool->is_thin_pool()) return refuse(Errc::conflict, pool_name + " is no thin pool");
  if (!pool->pool_zeroes()) {
    // A new volume would show what others have written wherever a chunk of it is written in part.
    return refuse(Errc::unsupported, pool_name + " does not zero what is new in it; lvchange -Z y " + group_.name() +
                                         "/" + pool_name + " has it do so");
  }
  return {};
}

Result<std::unique_ptr<Driver>> make_lvm_driver(const BackendOptions& options) {
  const Reader reader(options);
  LvmDriver::Options made;
  made.section = options.section();
  made.group.name = reader.text("volume_group", made.group.name);
  if (!is_group_name(made.group.name)) return reader.wrong("volume_group", "not a name that a volume group can have");
  const std::string type = base::to_lower(reader.text("lvm_type", "auto"));
  if (type != "default" && type != "thin" && type != "auto") {
    return reader.wrong("lvm_type", "must be default, thin or auto");
  }
  // `auto` is thin: Cinder's driver makes the thin pool before it looks whether there is one (its lvm.py,
  // check_for_setup_error, and what the class LVM does when it is made there).
  made.type = type == "default" ? LvmDriver::Type::thick : LvmDriver::Type::thin;
  IMAGECACHE_TRY(const unsigned mirrors, reader.number("lvm_mirrors", 0, 0, 1000));
  if (mirrors > 0) return reader.wrong("lvm_mirrors", "mirrored volumes are not made here", Errc::unsupported);
  const std::filesystem::path conf = reader.text("lvm_conf_file", "/etc/cinder/lvm.conf");
  std::error_code ignored;
  if (base::to_lower(conf.native()) != "none" && std::filesystem::is_regular_file(conf, ignored)) {
    made.group.system_dir = conf.parent_path().native();
  }
  const std::string clear = base::to_lower(reader.text("volume_clear", "zero"));
  if (clear != "zero" && clear != "none") return reader.wrong("volume_clear", "must be zero or none");
  made.clear = clear == "zero";
  IMAGECACHE_TRY(const unsigned clear_size_mb, reader.number("volume_clear_size", 0, 0, 1024));
  made.clear_size_bytes = clear_size_mb * base::mib;
  for (std::string& word : base::split(reader.text("lvm_root_helper", ""), ' ')) {
    if (!word.empty()) made.group.root_helper.push_back(std::move(word));
  }
  IMAGECACHE_TRY(const unsigned timeout_s, reader.number("lvm_command_timeout", 300, 1, 86400));
  made.group.timeout = std::chrono::seconds(timeout_s);
  IMAGECACHE_TRY(made.max_concurrency, reader.number("lvm_max_concurrency", made.max_concurrency, 1, 1024));
  const std::string name = reader.text("volume_name_template", "volume-%s");
  const auto id = name.find("%s");
  if (id == std::string::npos) return reader.wrong("volume_name_template", "must hold %s");
  made.name_before = name.substr(0, id);
  made.name_behind = name.substr(id + 2);
  return std::make_unique<LvmDriver>(std::move(made));
}

}  // namespace imagecache::backends

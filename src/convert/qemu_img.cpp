#include "convert/qemu_img.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/child.hpp"
#include "base/log.hpp"
#include "base/try.hpp"
#include "convert/image_source.hpp"
#include "convert/raw_file.hpp"

namespace imagecache::convert {
namespace {

constexpr std::string_view scratch_prefix = "cinder-image-cache-convert-";

// A file without a name, so that no crash leaves it behind. Where the file system has no O_TMPFILE it has a name for a
// moment, and remove_leftovers() is for that moment.
Result<base::Fd> make_scratch(const std::filesystem::path& directory) {
  IMAGECACHE_CHECK(base::make_directories(directory));
  if (auto fd = base::open_file(directory, O_TMPFILE | O_RDWR, 0600)) return fd;
  std::string name = (directory / (std::string(scratch_prefix) + "XXXXXX")).string();
  base::Fd fd(::mkostemp(name.data(), O_CLOEXEC));
  if (!fd) return base::fail_errno(name, errno);
  IMAGECACHE_CHECK(base::remove_file(name));
  return fd;
}

std::string_view driver_of(Format format) {
  return format == Format::vhd ? "vpc" : to_string(format);
}

std::string first_line(const std::string& output) {
  std::string line = output.substr(0, output.find('\n'));
  std::ranges::replace_if(line, [](unsigned char c) { return c < 0x20 || c >= 0x7f; }, '?');
  return line.empty() ? "without a word" : line;
}

// What it had to say of what went wrong.
std::string words_of(const base::ChildResult& child) {
  return child.errors.empty() ? child.output : child.errors;
}

Result<base::ChildResult> run(const base::ChildSpec& spec, std::stop_token stop) {
  auto child = base::run_child(spec, std::move(stop));
  if (!child && child.error().code == Errc::not_found) {
    return fail(Errc::not_found, child.error().message + "; install qemu-utils or set its path");
  }
  return child;
}

base::ChildSpec limited(const ConvertOptions& options) {
  return base::ChildSpec{.program = options.qemu_img,
                         .arguments = {},
                         .descriptors = {},
                         .cpu_limit_s = options.cpu_limit_s,
                         .address_space_limit_bytes = options.address_space_limit_bytes,
                         .file_size_limit_bytes = 0,
                         .timeout = options.timeout};
}

Result<void> check_outcome(const base::ChildResult& child, const std::string& name, const ConvertOptions& options) {
  if (child.exit_status == 0 && child.signal == 0) return {};
  if (words_of(child).contains("No space left on device"))
    return fail(Errc::no_space, name + ": no space left to convert it in " + options.conversion_dir.native());
  if (child.signal == SIGXCPU || (child.signal == SIGKILL && options.cpu_limit_s != 0))
    return fail(Errc::unacceptable_image, name + ": qemu-img was killed, at the latest after " +
                                              std::to_string(options.cpu_limit_s) + " s of processor time; refused");
  if (child.exit_status == 127)
    return fail(Errc::internal, name + ": " + options.qemu_img + " cannot be executed (too little address space?)");
  if (child.signal != 0)
    return fail(Errc::unacceptable_image,
                name + ": qemu-img ended with signal " + std::to_string(child.signal) + "; refused");
  return fail(Errc::unacceptable_image, name + ": qemu-img cannot read it: " + first_line(words_of(child)));
}

}  // namespace

Result<std::unique_ptr<ImageFile>> open_by_qemu_img(base::Fd fd, const Inspection& inspection,
                                                    const ConvertOptions& options, std::stop_token stop) {
  IMAGECACHE_TRY(base::Fd scratch, make_scratch(options.conversion_dir));
  if (::ftruncate(scratch.get(), static_cast<off_t>(inspection.virtual_size_bytes)) != 0)
    return base::fail_errno(options.conversion_dir.native(), errno);

  base::ChildSpec spec = limited(options);
  // Both files by descriptor and with their drivers named, so that nothing is guessed and no name of the image's is
  // taken for a protocol. The target is made already and reads as zeroes, so no zero is written; beyond its size
  // nothing can be.
  spec.arguments = {
      "convert",
      "-n",
      "--target-is-zero",
      "-W",
      "-S",
      "64k",
      "--image-opts",
      "--target-image-opts",
      "driver=" + std::string(driver_of(inspection.format)) + ",file.driver=file,file.filename=/proc/self/fd/3",
      "driver=raw,file.driver=file,file.filename=/proc/self/fd/4"};
  spec.descriptors = {fd.get(), scratch.get()};
  spec.file_size_limit_bytes = inspection.virtual_size_bytes;
  auto child = run(spec, std::move(stop));
  if (!child) return fail(child.error().code, inspection.name + ": " + child.error().message);
  IMAGECACHE_CHECK(check_outcome(*child, inspection.name, options));
  base::log::debug("convert", nullptr, "{}: {} of {} bytes converted", inspection.name, inspection.detail,
                   inspection.virtual_size_bytes);
  return open_raw(std::move(scratch), inspection, options);
}

Result<void> remove_leftovers(const std::filesystem::path& conversion_dir) {
  std::error_code failure;
  std::filesystem::directory_iterator entries(conversion_dir, failure);
  if (failure == std::errc::no_such_file_or_directory) return {};
  for (; !failure && entries != std::filesystem::directory_iterator(); entries.increment(failure)) {
    if (!entries->path().filename().native().starts_with(scratch_prefix)) continue;
    base::log::info("convert", nullptr, "removing {}, left by a crash", entries->path().native());
    IMAGECACHE_CHECK(base::remove_file(entries->path()));
  }
  if (failure) return base::fail_errno(conversion_dir.native(), failure.value());
  return {};
}

Result<void> check_qemu_img(const ConvertOptions& options) {
  base::ChildSpec spec = limited(options);
  spec.arguments = {"--version"};
  spec.timeout = std::chrono::seconds(10);
  IMAGECACHE_TRY(const base::ChildResult child, run(spec, {}));
  if (child.exit_status == 0 && child.signal == 0) return {};
  return fail(Errc::unavailable, options.qemu_img + ": cannot be run: " + first_line(words_of(child)));
}

}  // namespace imagecache::convert

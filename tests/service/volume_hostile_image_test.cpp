// Images that would read other files, lie, or are not whole: refused with the reason, and nothing is left of the try.
#include "service/volumes.hpp"

namespace imagecache::test {
namespace {

struct Hostile {
  const char* name;
  const char* command;  ///< for by_qemu_img
  std::size_t cut_to_percent;
  const char* disk_format;
  const char* reason;
};
void PrintTo(const Hostile& hostile, std::ostream* out) {
  *out << hostile.name;
}

class HostileImage : public testing::TestWithParam<Hostile> {};

TEST_P(HostileImage, IsRefusedWithTheReasonAndNothingIsLeft) {
  Daemon daemon;
  std::string file = by_qemu_img(sparse_disk(), GetParam().command);
  ASSERT_FALSE(file.empty()) << "qemu-img is needed to make the image";
  file.resize(file.size() * GetParam().cut_to_percent / 100);
  const auto image = daemon.origin.add({.content = Content::of(file), .disk_format = GetParam().disk_format});

  const auto id = daemon.create(image);
  EXPECT_EQ(daemon.settle(id), "error");
  EXPECT_NE(reason(daemon, id).find(GetParam().reason), std::string::npos) << reason(daemon, id);
  EXPECT_EQ(daemon.volume_files(), 0U);
  expect_no_image_volume(daemon);
  EXPECT_EQ(in_use(daemon, "admin", "volumes"), 1U) << "the row in error counts, as in Cinder";
  EXPECT_EQ(daemon.counters().convert_bytes, 0U) << "refused before a byte of it was copied";

  EXPECT_EQ(daemon.volume("DELETE", "/volumes/" + id).status, 202);
  EXPECT_EQ(daemon.settle(id), "gone");
  EXPECT_EQ(in_use(daemon, "admin", "volumes"), 0U);
  EXPECT_EQ(in_use(daemon, "admin", "gigabytes"), 0U);
  EXPECT_TRUE(files_in(daemon.directory / "state/conversion").empty());
}

INSTANTIATE_TEST_SUITE_P(
    , HostileImage,
    testing::Values(Hostile{"BackingFile", "create -f qcow2 -b %r -F raw %o", 100, "qcow2", "backing file"},
                    Hostile{"DataFile", "create -f qcow2 -o data_file=data,data_file_raw=on %o 1M", 100, "qcow2",
                            "data in another file"},
                    Hostile{"SaysRaw", "convert -f raw -O qcow2 %r %o", 100, "raw", "its content is qcow2"},
                    Hostile{"SaysVmdk", "convert -f raw -O qcow2 %r %o", 100, "vmdk", "its content is qcow2"},
                    Hostile{"Truncated", "convert -f raw -O qcow2 %r %o", 50, "qcow2", "truncated"},
                    Hostile{"TruncatedCompressed", "convert -c -f raw -O qcow2 %r %o", 50, "qcow2", "truncated"}),
    [](const auto& hostile) { return hostile.param.name; });

}  // namespace
}  // namespace imagecache::test

// What the lvm driver promises beyond the contract, on real LVM: only where IMAGECACHE_TEST_LVM names disks for it,
// which is in tests/support/lvm_guest.sh.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "backends/lvm/device.hpp"
#include "contract/random_image.hpp"
#include "contract/rig.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = base::mib;

class LvmTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    rig_ = make_rig(GetParam());
    ASSERT_NE(rig_, nullptr);
  }
  static bool thin() { return std::string_view(GetParam()) == "lvm_thin"; }
  static LvmGroup group() { return LvmGroup(thin()); }
  Driver& driver() { return rig_->driver(); }
  static void run(const std::string& command) { LvmGroup::run(command); }
  static std::string path(const VolumeId& volume) { return group().name() + "/" + volume.name; }

  void make_image_volume(const RandomImage& image, std::uint64_t size) {
    ASSERT_TRUE(driver().create_volume(base_, size));
    ASSERT_TRUE(driver().copy_image_to_volume(image, base_, {}));
  }
  Result<void> clone(const VolumeId& target, std::uint64_t size) {
    return driver().create_cloned_volume({.source = base_, .target = target, .size_bytes = size});
  }
  /// Exactly `size` bytes: the image's, then zeroes. Null: all zeroes.
  bool holds(const VolumeId& volume, const RandomImage* image, std::uint64_t size) {
    std::vector<std::byte> found(size + 1), wanted(size);
    if (image) image->expected(0, wanted);
    const auto got = rig_->read(volume, 0, found);
    EXPECT_TRUE(got) << got.error().message;
    return got && *got == size && std::memcmp(found.data(), wanted.data(), size) == 0;
  }
  std::vector<std::string> names() {
    std::vector<std::string> names;
    for (const VolumeId& volume : *driver().list_volumes()) names.push_back(volume.name);
    std::ranges::sort(names);
    return names;
  }

  /// A volume as LVM alone makes it: with what was on the disk.
  static void make_plain(const VolumeId& volume, std::uint64_t size) {
    run("lvcreate -q -y -Wn -Zn -L " + std::to_string(size) + "b -n " + volume.name + " " + group().name());
  }
  /// `size` bytes of the disk, those that the next volumes get, are ones.
  static void fill_disk(std::uint64_t size) {
    const VolumeId ones{"volume-ones"};
    make_plain(ones, size);
    fill(ones);
    run("lvremove -q -f " + path(ones));
  }
  static void fill(const VolumeId& volume) {
    const std::string device = "/dev/" + path(volume);
    run("tr '\\0' '\\377' </dev/zero | head -c $(blockdev --getsize64 " + device + ") >" + device + " && sync");
  }
  /// All of [begin, end).
  bool is_ones(const VolumeId& volume, std::uint64_t begin, std::uint64_t end) {
    std::vector<std::byte> found(end - begin);
    const auto got = rig_->read(volume, begin, found);
    EXPECT_TRUE(got) << got.error().message;
    return std::ranges::count(found, std::byte{0xff}) == std::ssize(found);
  }
  bool is_zeroes(const VolumeId& volume, std::uint64_t begin, std::uint64_t end) {
    std::vector<std::byte> found(end - begin, std::byte{1});
    const auto got = rig_->read(volume, begin, found);
    EXPECT_TRUE(got) << got.error().message;
    return std::ranges::count(found, std::byte{0}) == std::ssize(found);
  }

  std::unique_ptr<Rig> rig_;
  const RandomImage image_{{.virtual_size_bytes = 4 * mib, .dense = true}};
  const VolumeId base_{"volume-base"}, one_{"volume-1"};
};

class LvmThin : public LvmTest {};
class LvmThick : public LvmTest {};

TEST_P(LvmThin, AVolumeThatIsNotActiveIsMadeSoWhereItIsNeeded) {
  make_image_volume(image_, 4 * mib);
  ASSERT_TRUE(clone(one_, 4 * mib));
  run("vgchange -q -an " + group().name());
  ASSERT_FALSE(fs::exists("/dev/" + path(one_)));
  EXPECT_TRUE(holds(one_, &image_, 4 * mib));
  EXPECT_FALSE(fs::exists("/dev/" + path(base_)));
  // A host that starts activates clones by itself, as it does what Cinder's driver has made.
  run("vgchange -q -an " + group().name() + " && vgchange -q -ay " + group().name());
  EXPECT_TRUE(fs::exists("/dev/" + path(one_)));
}

TEST_P(LvmThin, AClonesContentTakesNoSpace) {
  make_image_volume(image_, 4 * mib);
  const auto before = driver().get_volume_stats()->free_bytes;
  ASSERT_TRUE(clone(one_, 64 * mib));
  EXPECT_EQ(driver().get_volume_stats()->free_bytes, before);
}

TEST_P(LvmThin, APoolThatDoesNotZeroWhatIsNewIsRefused) {
  run("lvchange -q -Zn " + group().name() + "/" + group().name() + "-pool");
  const auto second = backends::find_driver("lvm")(MapOptions(group().options()));
  ASSERT_TRUE(second);
  const auto ready = (*second)->check_for_setup_error();
  run("lvchange -q -Zy " + group().name() + "/" + group().name() + "-pool");
  ASSERT_FALSE(ready);
  EXPECT_EQ(ready.error().code, Errc::unsupported);
  EXPECT_THAT(ready.error().message, testing::HasSubstr("lvchange -Z y"));
}

TEST_P(LvmThin, WhatIsNotAVolumeIsNotListed) {
  ASSERT_TRUE(driver().create_volume(one_, mib));
  run("lvcreate -q -s -n _snapshot-1 " + path(one_) + " && lvcreate -q -V 1m -T -n root " + group().name() + "/" +
      group().name() + "-pool");
  EXPECT_THAT(names(), testing::ElementsAre("volume-1"));
  run("lvremove -q -f " + group().name() + "/root " + group().name() + "/_snapshot-1");
}

TEST_P(LvmThin, APoolThatIsFullSaysSoAndIsNotFullForEver) {
  // Not in a minute, which is how long the kernel waits for somebody to extend a pool.
  std::ofstream("/sys/module/dm_thin_pool/parameters/no_space_timeout") << "1";
  run("vgcreate -q -s 512b contract-small " + LvmGroup::disks().at(2));
  auto options = group().options();
  options["volume_group"] = "contract-small";
  const auto small = std::move(*backends::find_driver("lvm")(MapOptions(options)));
  const auto ready = small->check_for_setup_error();
  ASSERT_TRUE(ready) << ready.error().message;
  const auto all = small->get_volume_stats()->total_bytes;
  run("lvcreate -q -V 1g -T contract-small/contract-small-pool -n volume-filler && dd if=/dev/zero bs=1M count=" +
      std::to_string(all / mib - 2) + " oflag=direct of=/dev/contract-small/volume-filler status=none");
  EXPECT_LT(small->get_volume_stats()->free_bytes, 4 * mib);
  ASSERT_TRUE(small->create_volume(one_, 8 * mib));
  const RandomImage image({.virtual_size_bytes = 8 * mib, .dense = true});
  const auto copied = small->copy_image_to_volume(image, one_, {});
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code, Errc::no_space) << copied.error().message;
  ASSERT_TRUE(small->delete_volume(one_));
  ASSERT_TRUE(small->delete_volume({"volume-filler"}));
  ASSERT_TRUE(small->create_volume(one_, 8 * mib));
  const auto again = small->copy_image_to_volume(image, one_, {});
  EXPECT_TRUE(again) << again.error().message;
  run("vgremove -q -f contract-small");
}

TEST_P(LvmThin, AMissingGroupIsNamed) {
  const auto other = backends::find_driver("lvm")(MapOptions({{"volume_group", "no-such-group"}}));
  ASSERT_TRUE(other);
  const auto ready = (*other)->check_for_setup_error();
  ASSERT_FALSE(ready);
  EXPECT_EQ(ready.error().code, Errc::not_found);
  EXPECT_THAT(ready.error().message, testing::HasSubstr("volume_group = no-such-group: no such volume group"));
}

TEST_P(LvmThin, ASourceThatIsNotAsItWasMadeIsToBeMadeAnew) {
  run("lvcreate -q -y -L 1m -n volume-base " + group().name());  // as if lvm_type had been `default`
  const auto of_thick = clone(one_, mib);
  ASSERT_FALSE(of_thick);
  EXPECT_EQ(of_thick.error().code, Errc::corrupt) << of_thick.error().message;
  const VolumeId grown{"volume-grown"};
  ASSERT_TRUE(driver().create_volume(grown, 2 * mib));
  const auto of_grown = driver().create_cloned_volume({grown, one_, mib});
  ASSERT_FALSE(of_grown);
  EXPECT_EQ(of_grown.error().code, Errc::corrupt) << of_grown.error().message;
  EXPECT_THAT(names(), testing::ElementsAre("volume-base", "volume-grown"));
}

TEST_P(LvmThick, TheGrownPartHoldsNothingOfWhatWasThere) {
  fill_disk(4 * mib);
  make_plain(one_, 4 * mib);
  ASSERT_TRUE(is_ones(one_, 0, 4 * mib)) << "the next volume is where the last one was";
  run("lvremove -q -f " + path(one_));
  ASSERT_TRUE(driver().create_volume(one_, mib));
  ASSERT_TRUE(driver().extend_volume(one_, 4 * mib));
  EXPECT_TRUE(holds(one_, nullptr, 4 * mib));
}

TEST_P(LvmThick, NothingOfADeletedVolumeIsLeftOnTheDisk) {
  make_image_volume(image_, 4 * mib);
  ASSERT_TRUE(driver().delete_volume(base_));
  make_plain(one_, 4 * mib);
  EXPECT_TRUE(holds(one_, nullptr, 4 * mib));
}

TEST_P(LvmThick, NothingOfACloneThatFailsHalfWayIsLeftOnTheDisk) {
  const RandomImage image({.virtual_size_bytes = 8 * mib, .dense = true});
  make_image_volume(image, 8 * mib);
  fill_disk(8 * mib);
  // The second half of the source cannot be read.
  run("set -- $(dmsetup table contract--thick-volume--base) && printf '0 8192 linear %s %s\\n8192 8192 error\\n' $4 $5 "
      "| "
      "dmsetup reload contract--thick-volume--base && dmsetup suspend --noudevsync contract--thick-volume--base && "
      "dmsetup resume --noudevsync contract--thick-volume--base");
  const auto cloned = clone(one_, 8 * mib);
  ASSERT_FALSE(cloned);
  EXPECT_EQ(cloned.error().code, Errc::internal) << cloned.error().message;
  EXPECT_THAT(names(), testing::ElementsAre("volume-base"));
  make_plain(one_, 8 * mib);
  EXPECT_TRUE(is_zeroes(one_, 0, 4 * mib));
  EXPECT_TRUE(is_ones(one_, 4 * mib, 8 * mib)) << "it is where the clone was, which got no further";
}

TEST_P(LvmThick, ZeroesAreNoLongerWrittenWhenTheyAreCalledOff) {
  make_plain(one_, 4 * mib);
  const auto device = backends::Device::open("/dev/" + path(one_), one_.name, backends::Device::Use::write);
  ASSERT_TRUE(device && *device);
  std::stop_source stop;
  stop.request_stop();
  const auto zeroed = (*device)->zero(0, 4 * mib, stop.get_token());
  ASSERT_FALSE(zeroed);
  EXPECT_EQ(zeroed.error().code, Errc::cancelled);
}

TEST_P(LvmThick, WhatACrashedExtendLeftIsZeroedBeforeAVolumeIsAttached) {
  fill_disk(4 * mib);
  make_plain(one_, 4 * mib);
  run("lvchange -q --addtag cinder-image-cache.zero-from." + std::to_string(mib) + " " + path(one_));
  const auto connection = driver().initialize_connection(one_);
  ASSERT_TRUE(connection) << connection.error().message;
  EXPECT_TRUE(is_ones(one_, 0, mib));
  EXPECT_TRUE(is_zeroes(one_, mib, 4 * mib));
  // What the guest writes from now on is not zeroed by an extend.
  fill(one_);
  ASSERT_TRUE(driver().extend_volume(one_, 5 * mib));
  EXPECT_TRUE(is_ones(one_, 0, 4 * mib));
  EXPECT_TRUE(is_zeroes(one_, 4 * mib, 5 * mib));
}

TEST_P(LvmThick, AVolumeWithSnapshotsIsNotDeletedAndGrowsAllTheSame) {
  make_image_volume(image_, 4 * mib);
  run("lvcreate -q -s -L 2m -n _snapshot-1 " + path(base_));
  const auto deleted = driver().delete_volume(base_);
  ASSERT_FALSE(deleted);
  EXPECT_EQ(deleted.error().code, Errc::conflict) << deleted.error().message;
  const auto grown = driver().extend_volume(base_, 5 * mib);
  ASSERT_TRUE(grown) << grown.error().message;
  EXPECT_TRUE(holds(base_, &image_, 5 * mib));
  EXPECT_THAT(names(), testing::ElementsAre("volume-base"));
  run("lvremove -q -f " + group().name() + "/_snapshot-1");
}

TEST_P(LvmThick, AVolumeThatDoesNotFitIsRefusedAndLeavesNothing) {
  const auto made = driver().create_volume(one_, 100 * base::gib);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::no_space) << made.error().message;
  EXPECT_THAT(names(), testing::IsEmpty());
}

TEST_P(LvmThick, ACloneThatIsCalledOffLeavesNothing) {
  make_image_volume(image_, 4 * mib);
  std::stop_source stop;
  stop.request_stop();
  const auto cloned = driver().create_cloned_volume({base_, one_, 4 * mib, stop.get_token()});
  ASSERT_FALSE(cloned);
  EXPECT_EQ(cloned.error().code, Errc::cancelled) << cloned.error().message;
  EXPECT_THAT(names(), testing::ElementsAre("volume-base"));
}

TEST_P(LvmThick, AVolumeInUseIsNeitherWrittenToNorDeleted) {
  ASSERT_TRUE(driver().create_volume(one_, 4 * mib));
  const base::Fd user(::open(("/dev/" + path(one_)).c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  ASSERT_TRUE(user);
  const auto copied = driver().copy_image_to_volume(image_, one_, {});
  const auto deleted = driver().delete_volume(one_);
  ASSERT_FALSE(copied);
  ASSERT_FALSE(deleted);
  EXPECT_EQ(copied.error().code, Errc::conflict);
  EXPECT_EQ(deleted.error().code, Errc::conflict);
  EXPECT_TRUE(holds(one_, nullptr, 4 * mib));
}

// A process that is killed in the middle. What it leaves is under the volume's own name, where recovery finds it.
struct Crash {
  const char* rig;
  const char* at;  ///< as IMAGECACHE_CRASH_AT
  bool base_filled, clone_there;
};
void PrintTo(const Crash& crash, std::ostream* out) {
  *out << crash.rig << " " << crash.at;
}

class LvmCrash : public testing::TestWithParam<Crash> {
 protected:
  static std::unique_ptr<Driver> start() {
    const LvmGroup group(std::string_view(GetParam().rig) == "lvm_thin");
    auto driver = std::move(*backends::find_driver("lvm")(MapOptions(group.options())));
    const auto ready = driver->check_for_setup_error();
    EXPECT_TRUE(ready) << ready.error().message;
    return driver;
  }
  static bool work(Driver& driver, const ImageFile& image) {
    return driver.create_volume(base_, 2 * mib) && driver.copy_image_to_volume(image, base_, {}) &&
           driver.create_cloned_volume({base_, clone_, 3 * mib}) && driver.extend_volume(clone_, 4 * mib) &&
           driver.delete_volume(clone_);
  }
  static inline const VolumeId base_{"volume-base"}, clone_{"volume-clone"};
};

TEST_P(LvmCrash, LeavesWhatRecoveryFindsAndCanFinish) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const RandomImage image({.virtual_size_bytes = 2 * mib});
  const Crash crash = GetParam();
  // The process that is killed is this one started anew, and must leave the group as it finds it.
  std::unique_ptr<Rig> rig;
  if (!testing::internal::InDeathTestChild()) {
    rig = make_rig(crash.rig);
    if (std::string_view(crash.at).starts_with("extend")) {
      // So that what is not zeroed shows: the disk is full of ones.
      LvmGroup::run("lvcreate -q -y -Wn -Zn -L 64m -n volume-ones " + LvmGroup(false).name() +
                    " && tr '\\0' '\\377' </dev/zero | head -c 64M >/dev/contract-thick/volume-ones && sync && "
                    "lvremove -q -f contract-thick/volume-ones");
    }
  }
  EXPECT_EXIT(
      {
        ::setenv("IMAGECACHE_CRASH_AT", crash.at, 1);
        std::_Exit(work(*start(), image) ? 0 : 1);
      },
      testing::KilledBySignal(SIGKILL), "");

  const auto whole = [&](const VolumeId& volume, std::uint64_t size) {
    std::vector<std::byte> found(size), wanted(size);
    image.expected(0, wanted);
    const auto got = rig->read(volume, 0, found);
    return got && *got == size && std::memcmp(found.data(), wanted.data(), size) == 0;
  };
  const auto driver = start();
  EXPECT_EQ(driver->list_volumes()->size(), crash.clone_there ? 2U : 1U);
  if (crash.base_filled) EXPECT_TRUE(whole(base_, 2 * mib));
  if (std::string_view(crash.at).starts_with("extend")) {
    const auto extended = driver->extend_volume(clone_, 4 * mib);
    EXPECT_TRUE(extended) << extended.error().message;
    EXPECT_TRUE(whole(clone_, 4 * mib)) << "what was added is zeroes, though the service died before they were written";
  }
  ASSERT_TRUE(driver->delete_volume(clone_));
  ASSERT_TRUE(driver->delete_volume(base_));
  EXPECT_TRUE(driver->list_volumes()->empty());
}

const auto rig_name = [](const auto& param) { return std::string(param.param); };
std::vector<const char*> if_here(const char* rig) {
  return std::getenv("IMAGECACHE_TEST_LVM") ? std::vector{rig} : std::vector<const char*>{};
}
std::vector<Crash> crashes() {
  if (!std::getenv("IMAGECACHE_TEST_LVM")) return {};
  return {{"lvm_thin", "copy.half", false, false},      {"lvm_thin", "clone.cloned", true, true},
          {"lvm_thin", "delete.cleared", true, true},   {"lvm_thick", "volume.created", false, false},
          {"lvm_thick", "clone.created", true, true},   {"lvm_thick", "clone.copied", true, true},
          {"lvm_thick", "extend.extended", true, true}, {"lvm_thick", "delete.cleared", true, true}};
}

// No machine but the guest has them.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LvmThin);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LvmThick);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LvmCrash);
INSTANTIATE_TEST_SUITE_P(, LvmThin, testing::ValuesIn(if_here("lvm_thin")), rig_name);
INSTANTIATE_TEST_SUITE_P(, LvmThick, testing::ValuesIn(if_here("lvm_thick")), rig_name);
INSTANTIATE_TEST_SUITE_P(, LvmCrash, testing::ValuesIn(crashes()), [](const auto& param) {
  std::string name = std::string(param.param.rig) + "_" + param.param.at;
  std::ranges::replace(name, '.', '_');
  return name;
});

}  // namespace
}  // namespace imagecache::test

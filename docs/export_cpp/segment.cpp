// Panoptic labels of an image with libtorch alone: no Python, no Detectron2.
//
//   segment MODEL.pt IMAGE.ppm LABELS.bin
//
// MODEL.pt comes from `python -m deeplab2_d2.export --format torchscript --with-postprocessing`.
// IMAGE.ppm is a binary PPM of 8 bits (`convert street.jpg street.ppm`). LABELS.bin gets the labels,
// class * label_divisor + number, as int32 row by row; -1 is void.
#include <torch/script.h>

#include <fstream>
#include <iostream>
#include <map>
#include <vector>

// (1, 3, H, W) float32, RGB, 0 to 255.
at::Tensor read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int64_t width = 0, height = 0, largest = 0;
  file >> magic >> width >> height >> largest;
  TORCH_CHECK(magic == "P6" && largest == 255, path, " must be a binary PPM of 8 bits");
  file.get();
  std::vector<uint8_t> pixels(width * height * 3);
  file.read(reinterpret_cast<char*>(pixels.data()), pixels.size());
  TORCH_CHECK(file.gcount() == static_cast<std::streamsize>(pixels.size()), path, " is too short");
  auto image = at::from_blob(pixels.data(), {height, width, 3}, at::kByte);
  return image.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat).contiguous();
}

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: segment MODEL.pt IMAGE.ppm LABELS.bin\n";
    return 2;
  }
  c10::InferenceMode guard;
  auto model = torch::jit::load(argv[1]);
  auto outputs = model.forward({read_ppm(argv[2])}).toTuple();
  // The first output is panoptic_map, (1, H, W) int32; of a semantic model it is semantic_map.
  auto labels = outputs->elements()[0].toTensor().contiguous();
  std::ofstream out(argv[3], std::ios::binary);
  out.write(reinterpret_cast<const char*>(labels.data_ptr<int32_t>()), labels.numel() * 4);

  std::map<int32_t, int64_t> areas;
  for (int64_t i = 0; i < labels.numel(); ++i) ++areas[labels.data_ptr<int32_t>()[i]];
  for (const auto& [label, area] : areas) std::cout << label << ": " << area << " pixels\n";
  return 0;
}

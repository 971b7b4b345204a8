/** Advice for getting a better adapter: the exact commands for this system. */
import { readFileSync } from 'node:fs';

function release(): Record<string, string> {
  try {
    return Object.fromEntries(
      readFileSync('/etc/os-release', 'utf8')
        .split('\n')
        .map((line) => /^(\w+)="?([^"]*)"?$/.exec(line)?.slice(1) as [string, string])
        .filter(Boolean),
    );
  } catch {
    return {};
  }
}

/** Commands that install Mesa. Dawn needs Mesa 23 or newer; Debian 12 has it only in its backports. */
function mesaCommands(): string[] {
  const { ID = '', ID_LIKE = '', VERSION_ID = '' } = release();
  const family = `${ID} ${ID_LIKE}`;
  if (ID === 'debian' && VERSION_ID !== '' && Number(VERSION_ID) <= 12) {
    return [
      'sudo sh -c \'. /etc/os-release; sed -n "1,/^$/p" /etc/apt/sources.list.d/debian.sources | sed "s/^Suites:.*/Suites: $VERSION_CODENAME-backports/" > /etc/apt/sources.list.d/backports.sources\'',
      "sudo apt-get update && sudo sh -c '. /etc/os-release; apt-get install -y -t $VERSION_CODENAME-backports mesa-vulkan-drivers libvulkan1'",
    ];
  }
  if (/debian|ubuntu/.test(family)) return ['sudo apt-get update && sudo apt-get install -y mesa-vulkan-drivers libvulkan1'];
  if (/fedora|rhel/.test(family)) return ['sudo dnf install -y mesa-vulkan-drivers vulkan-loader'];
  if (/arch/.test(family)) return ['sudo pacman -S --needed vulkan-swrast vulkan-icd-loader'];
  if (/suse/.test(family)) return ['sudo zypper install libvulkan1 Mesa-vulkan-drivers'];
  return [];
}

export function adviceFor(adapterName: string, software: boolean): string[] {
  if (!software) return [];
  if (process.platform !== 'linux') return ['Install the current driver of your graphics card.'];
  const gpu = 'With a GPU in this machine: install its Vulkan driver (Mesa for AMD and Intel, the vendor’s for NVIDIA), then run `glimpse doctor` again.';
  if (/llvmpipe|lavapipe/i.test(adapterName)) return [gpu];
  return [...mesaCommands().map((command) => `For lavapipe, 3–5 times faster than SwiftShader: ${command}`), gpu];
}

/** `glimpse doctor`: declared. */
import { command, DEVICE, OUTPUT } from '../command.ts';

export const doctor = command({
  name: 'doctor',
  description: 'find a driver; print adapter, features, limits, and what to install for a better one',
  options: { ...DEVICE, ...OUTPUT },
  run: async () => (await import('../doctor.ts')).doctor,
});

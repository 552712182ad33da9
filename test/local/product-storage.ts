/** The queues and containers that the deployment makes in Azure, made in an account on this machine. */
import { BlobServiceClient } from '@azure/storage-blob';
import { QueueServiceClient } from '@azure/storage-queue';
import { containers, queues } from '../../lib/storage/ports.ts';

export async function createProductStorage(connectionString: string): Promise<void> {
  const blobs = BlobServiceClient.fromConnectionString(connectionString);
  const service = QueueServiceClient.fromConnectionString(connectionString);
  await Promise.all([
    ...containers.map((name) => blobs.getContainerClient(name).createIfNotExists()),
    ...queues
      .flatMap((name) => [name, `${name}-poison`])
      .map((name) => service.getQueueClient(name).createIfNotExists()),
  ]);
}

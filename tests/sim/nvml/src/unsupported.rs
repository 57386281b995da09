//! What the real library exports and the simulation does not do.

use crate::abi::api;
use crate::errors::NvmlError;

api! {
    library: nvmlComputeInstanceDestroy | nvmlComputeInstanceGetInfo | nvmlComputeInstanceGetInfo_v2 |
    nvmlDeviceClearAccountingPids | nvmlDeviceClearCpuAffinity | nvmlDeviceClearEccErrorCounts |
    nvmlDeviceClearFieldValues | nvmlDeviceCreateGpuInstance | nvmlDeviceCreateGpuInstanceWithPlacement |
    nvmlDeviceDiscoverGpus | nvmlDeviceFreezeNvLinkUtilizationCounter | nvmlDeviceGetAPIRestriction |
    nvmlDeviceGetAccountingBufferSize | nvmlDeviceGetAccountingMode | nvmlDeviceGetAccountingPids |
    nvmlDeviceGetAccountingStats | nvmlDeviceGetActiveVgpus | nvmlDeviceGetAdaptiveClockInfoStatus |
    nvmlDeviceGetApplicationsClock | nvmlDeviceGetAttributes | nvmlDeviceGetAttributes_v2 |
    nvmlDeviceGetAutoBoostedClocksEnabled | nvmlDeviceGetBoardPartNumber | nvmlDeviceGetBridgeChipInfo |
    nvmlDeviceGetBusType | nvmlDeviceGetC2cModeInfoV | nvmlDeviceGetClkMonStatus |
    nvmlDeviceGetComputeInstanceId | nvmlDeviceGetConfComputeGpuAttestationReport |
    nvmlDeviceGetConfComputeGpuCertificate | nvmlDeviceGetConfComputeMemSizeInfo |
    nvmlDeviceGetConfComputeProtectedMemoryUsage | nvmlDeviceGetCpuAffinity |
    nvmlDeviceGetCpuAffinityWithinScope | nvmlDeviceGetCreatableVgpus | nvmlDeviceGetDefaultApplicationsClock
    | nvmlDeviceGetDefaultEccMode | nvmlDeviceGetDetailedEccErrors |
    nvmlDeviceGetDeviceHandleFromMigDeviceHandle | nvmlDeviceGetDriverModel | nvmlDeviceGetDynamicPstatesInfo
    | nvmlDeviceGetEncoderCapacity | nvmlDeviceGetEncoderSessions | nvmlDeviceGetEncoderStats |
    nvmlDeviceGetFBCSessions | nvmlDeviceGetFBCStats | nvmlDeviceGetFanControlPolicy_v2 |
    nvmlDeviceGetFanSpeed_v2 | nvmlDeviceGetFieldValues | nvmlDeviceGetGpcClkMinMaxVfOffset |
    nvmlDeviceGetGpcClkVfOffset | nvmlDeviceGetGpuFabricInfo | nvmlDeviceGetGpuFabricInfoV |
    nvmlDeviceGetGpuInstanceById | nvmlDeviceGetGpuInstanceId | nvmlDeviceGetGpuInstancePossiblePlacements |
    nvmlDeviceGetGpuInstancePossiblePlacements_v2 | nvmlDeviceGetGpuInstanceProfileInfo |
    nvmlDeviceGetGpuInstanceProfileInfoV | nvmlDeviceGetGpuInstanceRemainingCapacity |
    nvmlDeviceGetGpuInstances | nvmlDeviceGetGpuMaxPcieLinkGeneration | nvmlDeviceGetGpuOperationMode |
    nvmlDeviceGetGridLicensableFeatures | nvmlDeviceGetGridLicensableFeatures_v2 |
    nvmlDeviceGetGridLicensableFeatures_v3 | nvmlDeviceGetGridLicensableFeatures_v4 |
    nvmlDeviceGetGspFirmwareMode | nvmlDeviceGetGspFirmwareVersion | nvmlDeviceGetHandleBySerial |
    nvmlDeviceGetInforomConfigurationChecksum | nvmlDeviceGetInforomImageVersion | nvmlDeviceGetInforomVersion
    | nvmlDeviceGetIrqNum | nvmlDeviceGetLastBBXFlushTime | nvmlDeviceGetMaxCustomerBoostClock |
    nvmlDeviceGetMemClkMinMaxVfOffset | nvmlDeviceGetMemClkVfOffset | nvmlDeviceGetMemoryAffinity |
    nvmlDeviceGetMemoryErrorCounter | nvmlDeviceGetMinMaxClockOfPState | nvmlDeviceGetMinMaxFanSpeed |
    nvmlDeviceGetModuleId | nvmlDeviceGetNumaNodeId | nvmlDeviceGetNvLinkCapability |
    nvmlDeviceGetNvLinkErrorCounter | nvmlDeviceGetNvLinkRemoteDeviceType | nvmlDeviceGetNvLinkRemotePciInfo |
    nvmlDeviceGetNvLinkRemotePciInfo_v2 | nvmlDeviceGetNvLinkState | nvmlDeviceGetNvLinkUtilizationControl |
    nvmlDeviceGetNvLinkUtilizationCounter | nvmlDeviceGetNvLinkVersion | nvmlDeviceGetP2PStatus |
    nvmlDeviceGetPciInfoExt | nvmlDeviceGetPcieLinkMaxSpeed | nvmlDeviceGetPcieSpeed |
    nvmlDeviceGetPgpuMetadataString | nvmlDeviceGetPowerSource | nvmlDeviceGetProcessesUtilizationInfo |
    nvmlDeviceGetRemappedRows | nvmlDeviceGetRetiredPages | nvmlDeviceGetRetiredPages_v2 |
    nvmlDeviceGetRowRemapperHistogram | nvmlDeviceGetRunningProcessDetailList | nvmlDeviceGetSamples |
    nvmlDeviceGetSramEccErrorStatus | nvmlDeviceGetSupportedGraphicsClocks |
    nvmlDeviceGetSupportedMemoryClocks | nvmlDeviceGetSupportedPerformanceStates | nvmlDeviceGetSupportedVgpus
    | nvmlDeviceGetTargetFanSpeed | nvmlDeviceGetThermalSettings | nvmlDeviceGetTopologyCommonAncestor |
    nvmlDeviceGetTopologyNearestGpus | nvmlDeviceGetVgpuCapabilities | nvmlDeviceGetVgpuHeterogeneousMode |
    nvmlDeviceGetVgpuInstancesUtilizationInfo | nvmlDeviceGetVgpuMetadata |
    nvmlDeviceGetVgpuProcessUtilization | nvmlDeviceGetVgpuProcessesUtilizationInfo |
    nvmlDeviceGetVgpuSchedulerCapabilities | nvmlDeviceGetVgpuSchedulerLog | nvmlDeviceGetVgpuSchedulerState |
    nvmlDeviceGetVgpuTypeCreatablePlacements | nvmlDeviceGetVgpuTypeSupportedPlacements |
    nvmlDeviceGetVgpuUtilization | nvmlDeviceGetViolationStatus | nvmlDeviceModifyDrainState |
    nvmlDeviceOnSameBoard | nvmlDeviceQueryDrainState | nvmlDeviceRegisterEvents | nvmlDeviceRemoveGpu |
    nvmlDeviceRemoveGpu_v2 | nvmlDeviceResetApplicationsClocks | nvmlDeviceResetGpuLockedClocks |
    nvmlDeviceResetMemoryLockedClocks | nvmlDeviceResetNvLinkErrorCounters |
    nvmlDeviceResetNvLinkUtilizationCounter | nvmlDeviceSetAPIRestriction | nvmlDeviceSetAccountingMode |
    nvmlDeviceSetApplicationsClocks | nvmlDeviceSetAutoBoostedClocksEnabled |
    nvmlDeviceSetConfComputeUnprotectedMemSize | nvmlDeviceSetCpuAffinity |
    nvmlDeviceSetDefaultAutoBoostedClocksEnabled | nvmlDeviceSetDefaultFanSpeed_v2 | nvmlDeviceSetDriverModel
    | nvmlDeviceSetEccMode | nvmlDeviceSetFanControlPolicy | nvmlDeviceSetFanSpeed_v2 |
    nvmlDeviceSetGpcClkVfOffset | nvmlDeviceSetGpuLockedClocks | nvmlDeviceSetGpuOperationMode |
    nvmlDeviceSetMemClkVfOffset | nvmlDeviceSetMemoryLockedClocks | nvmlDeviceSetMigMode |
    nvmlDeviceSetNvLinkDeviceLowPowerThreshold | nvmlDeviceSetNvLinkUtilizationControl |
    nvmlDeviceSetPersistenceMode | nvmlDeviceSetPowerManagementLimit | nvmlDeviceSetPowerManagementLimit_v2 |
    nvmlDeviceSetTemperatureThreshold | nvmlDeviceSetVgpuCapabilities | nvmlDeviceSetVgpuHeterogeneousMode |
    nvmlDeviceSetVgpuSchedulerState | nvmlDeviceSetVirtualizationMode | nvmlDeviceValidateInforom |
    nvmlEventSetCreate | nvmlEventSetFree | nvmlEventSetWait | nvmlEventSetWait_v2 |
    nvmlGetBlacklistDeviceCount | nvmlGetBlacklistDeviceInfoByIndex | nvmlGetExcludedDeviceCount |
    nvmlGetExcludedDeviceInfoByIndex | nvmlGetVgpuCompatibility | nvmlGetVgpuDriverCapabilities |
    nvmlGetVgpuVersion | nvmlGpmMetricsGet | nvmlGpmMigSampleGet | nvmlGpmQueryDeviceSupport |
    nvmlGpmQueryIfStreamingEnabled | nvmlGpmSampleAlloc | nvmlGpmSampleFree | nvmlGpmSampleGet |
    nvmlGpmSetStreamingEnabled | nvmlGpuInstanceCreateComputeInstance |
    nvmlGpuInstanceCreateComputeInstanceWithPlacement | nvmlGpuInstanceDestroy |
    nvmlGpuInstanceGetComputeInstanceById | nvmlGpuInstanceGetComputeInstancePossiblePlacements |
    nvmlGpuInstanceGetComputeInstanceProfileInfo | nvmlGpuInstanceGetComputeInstanceProfileInfoV |
    nvmlGpuInstanceGetComputeInstanceRemainingCapacity | nvmlGpuInstanceGetComputeInstances |
    nvmlGpuInstanceGetInfo | nvmlInternalGetExportTable | nvmlSetVgpuVersion |
    nvmlSystemGetConfComputeCapabilities | nvmlSystemGetConfComputeGpusReadyState |
    nvmlSystemGetConfComputeKeyRotationThresholdInfo | nvmlSystemGetConfComputeSettings |
    nvmlSystemGetConfComputeState | nvmlSystemGetHicVersion | nvmlSystemGetNvlinkBwMode |
    nvmlSystemGetTopologyGpuSet | nvmlSystemSetConfComputeGpusReadyState |
    nvmlSystemSetConfComputeKeyRotationThresholdInfo | nvmlSystemSetNvlinkBwMode | nvmlUnitGetDevices |
    nvmlUnitGetFanSpeedInfo | nvmlUnitGetHandleByIndex | nvmlUnitGetLedState | nvmlUnitGetPsuInfo |
    nvmlUnitGetTemperature | nvmlUnitGetUnitInfo | nvmlUnitSetLedState | nvmlVgpuInstanceClearAccountingPids |
    nvmlVgpuInstanceGetAccountingMode | nvmlVgpuInstanceGetAccountingPids | nvmlVgpuInstanceGetAccountingStats
    | nvmlVgpuInstanceGetEccMode | nvmlVgpuInstanceGetEncoderCapacity | nvmlVgpuInstanceGetEncoderSessions |
    nvmlVgpuInstanceGetEncoderStats | nvmlVgpuInstanceGetFBCSessions | nvmlVgpuInstanceGetFBCStats |
    nvmlVgpuInstanceGetFbUsage | nvmlVgpuInstanceGetFrameRateLimit | nvmlVgpuInstanceGetGpuInstanceId |
    nvmlVgpuInstanceGetGpuPciId | nvmlVgpuInstanceGetLicenseInfo | nvmlVgpuInstanceGetLicenseInfo_v2 |
    nvmlVgpuInstanceGetLicenseStatus | nvmlVgpuInstanceGetMdevUUID | nvmlVgpuInstanceGetMetadata |
    nvmlVgpuInstanceGetPlacementId | nvmlVgpuInstanceGetType | nvmlVgpuInstanceGetUUID |
    nvmlVgpuInstanceGetVmDriverVersion | nvmlVgpuInstanceGetVmID | nvmlVgpuInstanceSetEncoderCapacity |
    nvmlVgpuTypeGetCapabilities | nvmlVgpuTypeGetClass | nvmlVgpuTypeGetDeviceID |
    nvmlVgpuTypeGetFbReservation | nvmlVgpuTypeGetFrameRateLimit | nvmlVgpuTypeGetFramebufferSize |
    nvmlVgpuTypeGetGpuInstanceProfileId | nvmlVgpuTypeGetGspHeapSize | nvmlVgpuTypeGetLicense |
    nvmlVgpuTypeGetMaxInstances | nvmlVgpuTypeGetMaxInstancesPerVm | nvmlVgpuTypeGetName |
    nvmlVgpuTypeGetNumDisplayHeads | nvmlVgpuTypeGetResolution () |_| {
        Err(NvmlError::NOT_SUPPORTED)
    }
}
